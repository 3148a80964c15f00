"""Normalisation layers of a config: each module has a fixed epsilon, and we build no other."""

from shared.config.mm_config.config_reader import Section
from shared.model.bev_neck import NORM_EPS, NORM_MOMENTUM

TORCH_EPS = 1e-5  # what a norm_cfg without eps means

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


def expect_trained_norm(section: Section) -> None:
    """Read `norm_cfg` of a module that stage 2 trains, whose upstream default is the same."""
    norm = section.optional_section("norm_cfg")
    if norm is None:
        return
    norm.kind("BN", "BN2d")
    norm.expect("eps", NORM_EPS, required=True)  # torch's defaults are different
    norm.expect("momentum", NORM_MOMENTUM, required=True)
    norm.fixed({"requires_grad": True})
