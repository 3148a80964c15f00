"""Every way to attend with a bias means what the readable reference says, forward and backward."""

import logging
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from shared.config.aqr_config import Implementation
from shared.errors import ConfigError
from shared.model.attention import chunked_attention as chunks
from shared.model.attention.biased_attention import biased_attention, dense_attention
from shared.model.attention.chunked_attention import chunked_attention
from shared.model.attention.cpu import masked_attention as masks
from shared.model.attention.cpu.masked_attention import masked_attention
from shared.model.attention.kernels import kernel_choice
from shared.model.attention.kernels.kernel_choice import takes_kernels
from shared.model.attention.sensor_attention import sensor_attention
from shared.model.attention.windows.attention_bias import AttentionBias
from tests.shared.model.attention.scenes import (
    HEADS,
    LAYOUT,
    NOTHING,
    B,
    E,
    Q,
    drawn,
    membership,
    random_cells,
    random_windows,
)

RELATIVE = 1e-5
Attention = Callable[[Tensor, Tensor, Tensor, AttentionBias], Tensor]


def inputs(seed: int, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    per_sensor = (drawn(B, Q, 2, seed=seed) * 2).detach().clamp(-5, 5).requires_grad_()
    return (
        drawn(B, HEADS, Q, E, seed=seed + 1, scale=scale),
        drawn(B, HEADS, LAYOUT.tokens, E, seed=seed + 2),
        drawn(B, HEADS, LAYOUT.tokens, E, seed=seed + 3),
        per_sensor,
    )


def close(ours: Tensor, reference: Tensor, relative: float = RELATIVE) -> None:
    assert ours.isfinite().all()
    assert (ours - reference).abs().max() <= relative * reference.abs().max()


def equal_both_ways(attend: Attention, bias: AttentionBias, tensors: tuple[Tensor, ...]) -> None:
    query, key, value, *_ = tensors
    weights = drawn(B, HEADS, Q, E, seed=9).detach()
    results = []
    for each in (attend, dense_attention):
        attended = each(query, key, value, bias)
        results.append([attended, *torch.autograd.grad((attended * weights).sum(), tensors)])
    for ours, reference in zip(*results, strict=True):
        close(ours, reference)


def test_the_reference_is_a_softmax_over_scores_plus_bias() -> None:
    query, key, value, per_sensor = inputs(0)
    bias = AttentionBias(per_sensor=per_sensor, windows=random_windows(0))
    added = (membership(random_cells(0), 3, 5) * per_sensor.unsqueeze(2)).sum(dim=-1)  # (B, Q, N)
    scores = torch.einsum("bhqe,bhne->bhqn", query, key) / E**0.5 + added.unsqueeze(1)
    expected = torch.einsum("bhqn,bhne->bhqe", scores.softmax(-1), value)
    torch.testing.assert_close(dense_attention(query, key, value, bias), expected)


def test_a_gaussian_bias_falls_with_the_distance_from_the_middle_of_the_window() -> None:
    windows, per_sensor = random_windows(0), torch.ones(B, Q, 2)
    added = AttentionBias(per_sensor=per_sensor, windows=windows, sigma_cells=1.5).dense()
    rows, columns = LAYOUT.bev
    for sample in range(B):
        for query in range(Q):
            bev = added[sample, query, : LAYOUT.bev_tokens].view(rows, columns)
            row, column = windows.cells.bev[sample, query]
            squared = (torch.arange(rows) - row).square().unsqueeze(1)
            squared = squared + (torch.arange(columns) - column).square()
            inside = membership(windows.cells, 3, 5)[sample, query, : LAYOUT.bev_tokens, 0]
            expected = (-squared / (2 * 1.5**2)).exp() * inside.view(rows, columns)
            torch.testing.assert_close(bev, expected)
    assert ((added > 0) == windows.covered).all()


def test_a_bias_over_a_whole_sensor_is_added_to_all_of_its_tokens() -> None:
    per_sensor = torch.tensor([2.0, -3.0]).expand(B, Q, 2)
    added = AttentionBias(per_sensor=per_sensor, windows=random_windows(0), reach="sensor").dense()
    assert (added[..., : LAYOUT.bev_tokens] == 2.0).all()
    assert (added[..., LAYOUT.bev_tokens :] == -3.0).all()
    assert added.shape == (B, Q, LAYOUT.tokens)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("pieces", [1, 4])
@pytest.mark.parametrize("scale", [1.0, 4.0])  # at 4 a few tokens take nearly all attention
@pytest.mark.parametrize("sigma_cells", [None, 1.5])
@pytest.mark.parametrize("attend", [masked_attention, chunked_attention])
def test_pieces_equal_the_reference(
    attend: Attention,
    sigma_cells: float | None,
    scale: float,
    pieces: int,
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queries = -(-Q // pieces)
    monkeypatch.setattr(masks, "MASK_FLOATS", B * LAYOUT.tokens * queries)
    monkeypatch.setattr(chunks, "SCORES", B * HEADS * LAYOUT.tokens * queries)
    tensors = inputs(seed, scale)
    windows = random_windows(seed)
    bias = AttentionBias(per_sensor=tensors[3], windows=windows, sigma_cells=sigma_cells)
    equal_both_ways(attend, bias, tensors)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("attend", [sensor_attention, chunked_attention, biased_attention])
def test_a_bias_over_whole_sensors_equals_the_reference(attend: Attention, seed: int) -> None:
    tensors = inputs(seed)
    bias = AttentionBias(per_sensor=tensors[3], windows=random_windows(seed), reach="sensor")
    equal_both_ways(attend, bias, tensors)


@pytest.mark.parametrize(("dtype", "half_step"), [(torch.float16, 2**-11), (torch.bfloat16, 2**-8)])
def test_in_low_precision_a_bias_over_whole_sensors_is_not_rounded(
    dtype: torch.dtype, half_step: float
) -> None:
    """Scores of 0 make all of a sensor's shares equal: whatever is off comes from the bias."""
    per_sensor = torch.empty(1, 64, 2).uniform_(-5, 5, generator=torch.Generator().manual_seed(0))
    windows = random_windows(0)
    query, key = torch.zeros(1, 1, 64, 8), torch.zeros(1, 1, LAYOUT.tokens, 8)
    value = torch.zeros(1, 1, LAYOUT.tokens, 8)
    value[:, :, : LAYOUT.bev_tokens] = 1.0  # the result is the LiDAR's share
    bias = AttentionBias(per_sensor=per_sensor, windows=windows, reach="sensor")
    share = sensor_attention(query.to(dtype), key.to(dtype), value.to(dtype), bias)
    odds = (per_sensor[0, :, 0] - per_sensor[0, :, 1]).exp() * LAYOUT.bev_tokens
    exact = odds / (odds + LAYOUT.tokens - LAYOUT.bev_tokens)
    # The result's own rounding, and that of the shares; a rounded bias would be off by up to
    # 5 x half_step, in the exponent.
    error = (share[0, 0, :, 0].float() - exact).abs() / exact
    assert error.max() < 1.5 * half_step


@pytest.mark.parametrize("attend", [masked_attention, chunked_attention])
def test_a_bias_of_zero_changes_nothing(attend: Attention) -> None:
    query, key, value, _ = inputs(0)
    bias = AttentionBias(per_sensor=torch.zeros(B, Q, 2), windows=random_windows(0))
    plain = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    close(attend(query, key, value, bias), plain)


@pytest.mark.parametrize("attend", [masked_attention, chunked_attention])
def test_a_query_without_windows_gets_no_gradient_on_its_bias(attend: Attention) -> None:
    tensors = inputs(0)
    bias = AttentionBias(per_sensor=tensors[3], windows=random_windows(0))
    (grad,) = torch.autograd.grad(attend(*tensors[:3], bias).square().sum(), tensors[3:])
    assert (grad[:, NOTHING] == 0).all()
    assert (grad != 0).any()


@pytest.mark.parametrize("attend", [masked_attention, chunked_attention])
def test_nothing_as_large_as_queries_times_tokens_is_kept_for_the_backward_pass(
    attend: Attention,
) -> None:
    tensors = inputs(0)
    bias = AttentionBias(per_sensor=tensors[3], windows=random_windows(0))
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: (kept.append(tensor.numel()), tensor)[1], lambda tensor: tensor
    ):
        attend(*tensors[:3], bias)
    assert max(kept) == B * HEADS * LAYOUT.tokens * E  # the keys


def test_gradients_in_bfloat16_are_finite_in_chunks() -> None:
    tensors = inputs(0, scale=8.0)
    bias = AttentionBias(per_sensor=tensors[3], windows=random_windows(0))
    attended = chunked_attention(*(tensor.bfloat16() for tensor in tensors[:3]), bias=bias)
    assert attended.dtype == torch.bfloat16
    for gradient in torch.autograd.grad(attended.float().square().sum(), tensors):
        assert gradient.isfinite().all()


@pytest.mark.parametrize("implementation", ["auto", "pieces"])
def test_on_a_cpu_the_mask_is_taken(implementation: Implementation) -> None:
    query, key, value, per_sensor = inputs(0)
    bias = AttentionBias(per_sensor=per_sensor, windows=random_windows(0))
    chosen = biased_attention(query, key, value, replace(bias, implementation=implementation))
    assert torch.equal(chosen, masked_attention(query, key, value, bias))


def test_kernels_that_were_asked_for_and_do_not_run_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(kernel_choice, "_reasons", {})
    with pytest.raises(ConfigError, match=r"'kernels', which do not run on cpu: .*Choose 'auto'"):
        takes_kernels("kernels", torch.zeros(2, 8))
    with pytest.raises(ConfigError, match=r"not torch\.float64"):
        takes_kernels("kernels", torch.zeros(2, 8, dtype=torch.float64))


def test_a_gpu_on_which_the_kernels_do_not_run_is_named_in_the_log_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kernel_choice, "_reasons", {})
    monkeypatch.setattr(kernel_choice, "_warned", set())
    monkeypatch.setattr(kernel_choice, "reason_against", lambda _: "Triton cannot be imported")

    class OnGpu:
        """Looks like a tensor on a GPU."""

        device, shape = torch.device("cuda", 0), (2, 8)

        def __init__(self, dtype: torch.dtype) -> None:
            self.dtype = dtype

    with caplog.at_level(logging.WARNING):
        for dtype in (torch.float32, torch.bfloat16, torch.float32):
            assert not takes_kernels("auto", OnGpu(dtype))  # type: ignore[arg-type]
    (record,) = caplog.records
    assert "do not run on cuda:0, so its attention is computed in pieces" in record.message
    assert "Triton cannot be imported" in record.message
