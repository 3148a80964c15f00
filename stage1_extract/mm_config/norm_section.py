"""Normalisation layers of a config: each module has a fixed epsilon, and we build no other."""

from shared.config.mm_config.config_reader import Section

TORCH_EPS = 1e-5  # what a norm_cfg without eps means
TORCH_MOMENTUM = 0.1

# In eval mode all of them normalise with the same running statistics.
FROZEN_KINDS = {
    1: ("BN1d", "BN", "SyncBN", "naiveSyncBN1d"),
    2: ("BN", "BN2d", "SyncBN", "naiveSyncBN2d"),
}


def expect_frozen_norm(section: Section, *, dims: int, eps: float) -> None:
    """Read `norm_cfg` of a frozen module, whose upstream default has the same epsilon.

    Args:
        section: the module.
        dims: 1 for rows of channels, 2 for maps.
        eps: of our module.
    """
    norm = section.optional_section("norm_cfg")
    if norm is None:
        return
    norm.kind(*FROZEN_KINDS[dims])
    norm.expect("eps", eps, required=eps != TORCH_EPS)
    norm.skip(
        {
            "momentum": "running statistics do not change in a frozen module",
            "requires_grad": "a frozen module has no gradients",
        }
    )


def expect_trained_norm(section: Section, *, eps: float, momentum: float) -> None:
    """Read `norm_cfg` of a module that stage 2 trains, whose upstream default is the same."""
    norm = section.optional_section("norm_cfg")
    if norm is None:
        return
    norm.kind("BN", "BN2d")
    norm.expect("eps", eps, required=eps != TORCH_EPS)
    norm.expect("momentum", momentum, required=momentum != TORCH_MOMENTUM)
    norm.fixed({"requires_grad": True})
