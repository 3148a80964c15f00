"""FlexAttention means what the dense reference says, also backward, and gives way where it fails.

Torch refuses its backward pass on a CPU, though the operator has a dense one for checking. The
refusal is lifted here, nothing else; "aot_eager" goes the way to a GPU up to the making of kernels.
"""

import logging
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from shared.config.aqr_config import AqrConfig
from shared.model.aqr.bias_generator import AttentionBiasGenerator
from shared.model.attention import biased_attention as choice
from shared.model.attention import flex
from shared.model.attention.attention_bias import AttentionBias, Implementation
from shared.model.attention.biased_attention import (
    biased_attention,
    dense_attention,
    masked_attention,
)
from shared.model.attention.flex import flex_biased_attention, score_change
from shared.model.attention.windows import LocalWindows, QueryCells, local_windows
from tests.shared.model.attention.scenes import (
    HEADS,
    LAYOUT,
    NOTHING,
    B,
    E,
    Q,
    drawn,
    random_cells,
    random_windows,
)

RELATIVE = 1e-5
HALF_STEP = 2.0**-10  # relative, of float16


@pytest.fixture
def backward_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys.modules["torch.nn.attention.flex_attention"], "_validate_device", lambda *_: None
    )


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch, backward_on_cpu: None) -> CompileCounterWithBackend:
    """Make the CPU go the compiled way; counts graphs."""
    counter = CompileCounterWithBackend("aot_eager")
    torch._dynamo.reset()
    run = torch.compile(flex._attend, backend=counter, dynamic=True, fullgraph=True)
    monkeypatch.setattr(flex, "_attend", run)
    return counter


def inputs(seed: int, queries: int = Q, samples: int = B) -> list[Tensor]:
    """Return query, key, value as the decoder makes them: heads split off the width."""
    return [
        drawn(samples, count, HEADS * E, seed=seed + at, scale=scale)
        .unflatten(-1, (HEADS, E))
        .transpose(1, 2)
        for at, (count, scale) in enumerate(
            ((queries, 4.0), (LAYOUT.tokens, 1), (LAYOUT.tokens, 1))
        )
    ]


def bias_of(
    windows: LocalWindows, implementation: Implementation = "flex", seed: int = 5
) -> tuple[AttentionBias, list[Tensor]]:
    """Return a bias, and what it is made of: weights and the logit of the scale."""
    generator = AttentionBiasGenerator(AqrConfig(attention=implementation))
    weights = drawn(*windows.nearby.shape, seed=seed)
    return generator(weights.tanh(), windows), [weights, generator.bias_scale_logit]


def windows_of(queries: int, samples: int) -> LocalWindows:
    """Return windows of the random cells, repeated to that many queries and samples."""
    cells = random_cells(queries)
    q, b = torch.arange(queries) % Q, torch.arange(samples) % B
    chosen = QueryCells(
        layout=LAYOUT,
        bev=cells.bev[b][:, q],
        on_grid=cells.on_grid[b][:, q],
        camera=cells.camera[b][:, :, q],
        seen=cells.seen[b][:, :, q],
    )
    return local_windows(chosen, bev_side=3, camera_side=5)


def close(ours: Tensor, reference: Tensor, relative: float = RELATIVE) -> None:
    assert ours.isfinite().all()
    assert (ours - reference).abs().max() <= relative * reference.abs().max()


def equal_both_ways(windows: LocalWindows, seed: int = 0, *, half: bool = False) -> None:
    """Compare outputs and gradients with the reference, at equal inputs."""
    samples, queries = windows.tokens.shape[:2]
    found = []
    for attend in (flex_biased_attention, dense_attention):
        attention, (bias, parts) = inputs(seed, queries, samples), bias_of(windows)
        given = [one.half() for one in attention] if half else attention
        exact = attend is dense_attention
        attended = attend(*(one.float() if exact else one for one in given), bias)
        assert attended.dtype == (torch.float32 if exact else given[0].dtype)
        wanted = torch.linspace(-1.0, 1.0, attended.numel()).view_as(attended)
        grads = torch.autograd.grad((attended * wanted).sum(), [*attention, *parts])
        found.append([attended, *grads])
    for one, other in zip(*found, strict=True):
        close(one.float(), other, 4 * HALF_STEP if half else RELATIVE)


@pytest.mark.parametrize("seed", range(4))
def test_it_equals_the_reference_forward_and_backward(seed: int, backward_on_cpu: None) -> None:
    equal_both_ways(random_windows(seed), seed)


def test_compiled_it_equals_the_reference_and_is_compiled_once_for_all_batches(
    compiled: CompileCounterWithBackend,
) -> None:
    """Other geometry, other numbers of denoising queries, a smaller last batch."""
    for queries, samples in ((Q, B), (40, B), (150, B), (29, 3)):
        equal_both_ways(windows_of(queries, samples))
    assert compiled.frame_count == 1

    equal_both_ways(windows_of(Q, 1))
    equal_both_ways(windows_of(40, 1))
    assert compiled.frame_count == 2  # torch takes a size of 1 for a constant

    with torch.no_grad():
        for queries, samples in ((Q, B), (40, 3)):
            flex_biased_attention(
                *inputs(0, queries, samples), bias_of(windows_of(queries, samples))[0]
            )
    assert compiled.frame_count == 3


def test_in_float16_it_stays_within_a_few_roundings(compiled: CompileCounterWithBackend) -> None:
    equal_both_ways(random_windows(0), half=True)


def test_the_kernel_is_asked_for_no_gradient_but_those_of_query_key_and_value() -> None:
    """Triton's adds up others by atomics, and refuses a tensor read at two places."""
    bias, _ = bias_of(random_windows(0))
    read = [one.cell_contents for one in score_change(bias).__closure__ or ()]  # type: ignore[attr-defined]
    assert len(read) > 0
    assert not any(one.requires_grad for one in read)


def test_a_query_without_windows_gets_no_gradient_on_its_weights(backward_on_cpu: None) -> None:
    bias, (weights, _) = bias_of(random_windows(0))
    attended = flex_biased_attention(*inputs(0), bias)
    (grad,) = torch.autograd.grad(attended.square().sum(), weights)
    assert (grad[:, NOTHING] == 0).all()
    assert (grad != 0).any()


def test_nothing_as_large_as_queries_times_tokens_is_kept_for_the_backward_pass(
    compiled: CompileCounterWithBackend,
) -> None:
    queries = 150
    attention, (bias, _) = inputs(0, queries), bias_of(windows_of(queries, B))
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda one: (kept.append(one.numel()), one)[1], lambda one: one
    ):
        flex_biased_attention(*attention, bias)
    assert max(kept) == B * HEADS * max(queries, LAYOUT.tokens) * E < B * queries * LAYOUT.tokens


class Unwilling(torch.autograd.Function):
    """Attends, but not backward."""

    @staticmethod
    def forward(ctx: Any, attended: Tensor) -> Tensor:
        return attended.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        raise RuntimeError("no kernel for this")


def attends_forward_only(*arguments: Any) -> tuple[Tensor, Tensor]:
    query, _, value, _ = arguments
    attended = (query + value.mean(dim=2, keepdim=True)).contiguous()
    return Unwilling.apply(attended), attended.detach().sum(dim=-1)  # type: ignore[no-untyped-call]


def runs_out_of_memory(*_: Any) -> tuple[Tensor, Tensor]:
    raise torch.OutOfMemoryError("out of memory")


@pytest.fixture
def auto_means_flex(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "FLEX_DEVICE", "cpu")
    monkeypatch.setattr(flex, "_runs", {})


def test_auto_takes_it_where_it_runs(
    auto_means_flex: None, compiled: CompileCounterWithBackend, caplog: pytest.LogCaptureFixture
) -> None:
    bias, _ = bias_of(random_windows(0), "auto")
    close(biased_attention(*inputs(0), bias), dense_attention(*inputs(0), bias))
    assert compiled.frame_count == 1
    assert not [one for one in caplog.records if one.name == flex.log.name]


@pytest.mark.parametrize(
    ("attend", "reason"),
    [(None, "does not support backward on CPU"), (attends_forward_only, "no kernel for this")],
)
def test_auto_takes_the_mask_where_it_does_not_run_and_says_so_once(
    attend: Callable[..., Any] | None,
    reason: str,
    auto_means_flex: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if attend is not None:
        monkeypatch.setattr(flex, "_attend", attend)
    bias, _ = bias_of(random_windows(0), "auto")

    with caplog.at_level(logging.WARNING):
        attended = [biased_attention(*inputs(0), bias) for _ in range(2)]

    (record,) = caplog.records
    assert "FlexAttention does not run on cpu with torch.float32 heads of 8" in record.message
    assert "AQR attends with a mask instead" in record.message
    assert reason in record.message
    for one in attended:
        torch.testing.assert_close(one, masked_attention(*inputs(0), bias), rtol=0, atol=0)


def test_a_flex_that_was_asked_for_fails_aloud() -> None:
    bias, _ = bias_of(random_windows(0), "flex")
    with pytest.raises(NotImplementedError, match="backward on CPU"):
        biased_attention(*inputs(0), bias)


def test_a_lack_of_memory_is_no_reason_to_take_the_mask(
    auto_means_flex: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flex, "_attend", runs_out_of_memory)
    bias, _ = bias_of(random_windows(0), "auto")
    with pytest.raises(torch.OutOfMemoryError):
        biased_attention(*inputs(0), bias)
