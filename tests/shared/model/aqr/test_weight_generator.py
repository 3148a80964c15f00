"""The weight generator looks only at the windows; a sensor without tokens there has weight 0."""

import pytest
import torch
from torch import Tensor

from shared.config.aqr_config import AqrConfig
from shared.model.aqr.weight_generator import AqrWeightGenerator, dense_look
from shared.model.attention.windows.local_windows import LocalWindows
from tests.shared.model.attention.scenes import (
    LAYOUT,
    NOTHING,
    OFF_GRID,
    UNSEEN,
    B,
    Q,
    drawn,
    random_windows,
)

D = 12
CONFIG = AqrConfig(heads=3, ffn_width=10, start="upstream")


@pytest.fixture
def windows() -> LocalWindows:
    return random_windows()


@pytest.fixture
def generator() -> AqrWeightGenerator:
    torch.manual_seed(0)
    generator = AqrWeightGenerator(D, CONFIG)
    torch.nn.init.normal_(generator.attention.in_proj_bias)
    return generator.eval()


def memory() -> tuple[Tensor, Tensor, Tensor]:
    return (
        drawn(B, Q, D, seed=1),
        drawn(B, LAYOUT.tokens, D, seed=2),
        drawn(B, LAYOUT.tokens, D, seed=3),
    )


@pytest.mark.parametrize("seed", range(3))
def test_looking_at_the_windows_equals_masking_all_tokens(
    generator: AqrWeightGenerator, seed: int
) -> None:
    windows = random_windows(seed)
    positions, keys, values = memory()
    inputs = [positions, keys, values, *generator.attention.parameters()]
    inputs += [generator.bev_type_embed, generator.rv_type_embed]
    types = torch.stack([generator.bev_type_embed, generator.rv_type_embed])
    by_any = windows.nearby.any(dim=-1, keepdim=True)  # an empty window sees nothing, or all
    upstream = drawn(B, Q, D, seed=4).detach() * by_any

    ours = generator.attention.look(positions, keys, values, types, windows)
    dense = dense_look(generator, positions, keys, values, windows)

    torch.testing.assert_close(ours * by_any, dense * by_any, rtol=1e-5, atol=1e-6)
    for ours_of, dense_of in zip(
        torch.autograd.grad((ours * upstream).sum(), inputs),
        torch.autograd.grad((dense * upstream).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(ours_of, dense_of, rtol=1e-5, atol=2e-5)


def test_a_token_outside_the_windows_cannot_change_the_weights(
    generator: AqrWeightGenerator, windows: LocalWindows
) -> None:
    positions, keys, values = (tensor.detach() for tensor in memory())
    outside = ~windows.covered[0, UNSEEN]
    before = generator(positions, keys, values, windows)
    keys[0, outside] += 100.0
    values[0, outside] -= 100.0
    after = generator(positions, keys, values, windows)
    torch.testing.assert_close(after[0, UNSEEN], before[0, UNSEEN], rtol=0, atol=0)
    assert not torch.allclose(after, before)


def test_what_is_not_there_has_a_weight_of_exactly_zero(
    generator: AqrWeightGenerator, windows: LocalWindows
) -> None:
    weights = generator(*memory(), windows)
    assert weights.isfinite().all()
    assert (weights[:, NOTHING] == 0).all()
    assert (weights[:, OFF_GRID, 0] == 0).all()
    assert (weights[:, UNSEEN, 1] == 0).all()
    assert (weights[:, OFF_GRID, 1] != 0).all()
    assert (weights[:, UNSEEN, 0] != 0).all()


def test_queries_without_windows_leave_all_gradients_finite(
    generator: AqrWeightGenerator, windows: LocalWindows
) -> None:
    windows.cells.on_grid[:], windows.cells.seen[:] = False, False
    generator(*memory(), windows).sum().backward()
    for parameter in generator.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()


def test_the_sensors_are_told_apart(generator: AqrWeightGenerator, windows: LocalWindows) -> None:
    """With the same features everywhere only the type embeddings differ."""
    same = torch.ones(B, LAYOUT.tokens, D)
    positions = torch.ones(B, Q, D)
    weights = generator(positions, same, same, windows)
    assert not torch.allclose(weights[:, OFF_GRID, 1], weights[:, UNSEEN, 0], atol=1e-4)


def test_a_neutral_start_gives_zero_weights_that_can_learn(windows: LocalWindows) -> None:
    torch.manual_seed(0)
    generator = AqrWeightGenerator(D, AqrConfig(heads=3, ffn_width=10))
    weights = generator(*memory(), windows)
    assert (weights == 0).all()
    weights.sum().backward()
    assert generator.weight_predictor.weight.grad is not None
    assert (generator.weight_predictor.weight.grad != 0).any()


def test_the_upstream_start_trusts_everything(windows: LocalWindows) -> None:
    generator = AqrWeightGenerator(D, CONFIG)
    torch.nn.init.zeros_(generator.weight_predictor.weight)
    weights = generator(*memory(), windows)
    expected = windows.nearby * torch.tensor(1.5).tanh()
    torch.testing.assert_close(weights, expected)
