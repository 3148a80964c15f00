"""On a CUDA device the three ways to attend, and the generator, give what they give on a CPU."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from shared.config.aqr_config import AqrConfig
from shared.model.aqr.weight_generator import AqrWeightGenerator
from shared.model.attention.attention_bias import AttentionBias, Implementation
from shared.model.attention.biased_attention import biased_attention, dense_attention
from shared.model.attention.flex import flex_runs
from shared.model.attention.windows import LocalWindows, QueryCells, TokenLayout, local_windows
from tests.shared.model.attention.scenes import random_cells

pytestmark = pytest.mark.gpu

HEADS, E, D = 4, 32, 64
LAYOUT = TokenLayout(bev=(16, 16), camera=(4, 8, 16))  # 768 tokens, as kernels like them
AWKWARD = TokenLayout(bev=(17, 19), camera=(4, 7, 13))  # 687
RELATIVE = 1e-4  # of the largest value: kernels use other orders of summation


def windows(layout: TokenLayout = LAYOUT) -> LocalWindows:
    """Return windows on the device, of the random cells of the other tests."""
    cells = random_cells(0)
    here = QueryCells(
        layout=layout,
        bev=cells.bev.cuda(),
        on_grid=cells.on_grid.cuda(),
        camera=cells.camera.cuda(),
        seen=cells.seen.cuda(),
    )
    return local_windows(here, bev_side=5, camera_side=7)


def drawn(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(len(shape) + shape[-1])
    return torch.randn(shape, generator=generator).cuda().requires_grad_()


def close(ours: Tensor, reference: Tensor) -> None:
    assert ours.isfinite().all()
    assert (ours - reference).abs().max() <= RELATIVE * reference.abs().max()


@pytest.mark.parametrize("layout", [LAYOUT, AWKWARD])
@pytest.mark.parametrize("implementation", ["masked", "flex", "auto"])
def test_biased_attention_equals_the_reference(
    implementation: Implementation, layout: TokenLayout
) -> None:
    around = windows(layout)
    samples, queries = around.tokens.shape[:2]
    per_sensor = drawn(samples, queries, 2)
    inputs = [drawn(samples, HEADS, n, E) for n in (queries, layout.tokens, layout.tokens)]
    bias = AttentionBias(per_sensor=per_sensor, windows=around, implementation=implementation)

    ours = biased_attention(*inputs, bias)
    reference = dense_attention(*inputs, bias)

    close(ours, reference)
    leaves = [*inputs, per_sensor]
    for one, other in zip(
        torch.autograd.grad(ours.square().sum(), leaves),
        torch.autograd.grad(reference.square().sum(), leaves),
        strict=True,
    ):
        close(one, other)


def test_auto_means_flex_attention() -> None:
    around = windows()
    samples, queries = around.tokens.shape[:2]
    bias = AttentionBias(
        per_sensor=drawn(samples, queries, 2), windows=around, implementation="auto"
    )
    inputs = [drawn(samples, HEADS, n, E) for n in (queries, LAYOUT.tokens, LAYOUT.tokens)]
    assert flex_runs(*inputs, bias)


def test_the_weight_generator_equals_itself_on_a_cpu() -> None:
    torch.manual_seed(0)
    generator = AqrWeightGenerator(D, AqrConfig(start="upstream", ffn_width=32)).eval()
    there = windows()
    samples, queries = there.tokens.shape[:2]
    inputs = [drawn(samples, n, D) for n in (queries, LAYOUT.tokens, LAYOUT.tokens)]
    on_cpu = replace(there, tokens=there.tokens.cpu(), inside=there.inside.cpu())
    expected = generator(*(one.cpu() for one in inputs), on_cpu)
    wanted = torch.autograd.grad(expected.square().sum(), list(generator.parameters()))

    generator.cuda()
    found = generator(*inputs, there)
    grads = torch.autograd.grad(found.square().sum(), list(generator.parameters()))

    close(found.cpu(), expected)
    for one, other in zip(grads, wanted, strict=True):
        close(one.cpu(), other)
