"""Attention with a mask means what the readable reference says, forward and backward."""

import pytest
import torch
from torch import Tensor

from shared.model.attention import biased_attention as module
from shared.model.attention.attention_bias import AttentionBias
from shared.model.attention.biased_attention import (
    biased_attention,
    dense_attention,
    masked_attention,
)
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


def inputs(seed: int, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    per_sensor = (drawn(B, Q, 2, seed=seed) * 2).detach().clamp(-5, 5).requires_grad_()
    return (
        drawn(B, HEADS, Q, E, seed=seed + 1, scale=scale),
        drawn(B, HEADS, LAYOUT.tokens, E, seed=seed + 2),
        drawn(B, HEADS, LAYOUT.tokens, E, seed=seed + 3),
        per_sensor,
    )


def close(ours: Tensor, reference: Tensor) -> None:
    worst = (ours - reference).abs().max() / reference.abs().max()
    assert ours.isfinite().all()
    assert worst < RELATIVE


def test_the_reference_is_a_softmax_over_scores_plus_bias() -> None:
    query, key, value, per_sensor = inputs(0)
    cells = random_cells(0)
    bias = AttentionBias(per_sensor=per_sensor, windows=random_windows(0), implementation="dense")
    added = (membership(cells, 3, 5) * per_sensor.unsqueeze(2)).sum(dim=-1)  # (B, Q, N)
    scores = torch.einsum("bhqe,bhne->bhqn", query, key) / E**0.5 + added.unsqueeze(1)
    expected = torch.einsum("bhqn,bhne->bhqe", scores.softmax(-1), value)
    torch.testing.assert_close(dense_attention(query, key, value, bias), expected)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("pieces", [1, 4])
@pytest.mark.parametrize("scale", [1.0, 4.0])  # at 4 a few tokens take nearly all attention
def test_masked_attention_equals_the_reference(
    seed: int, pieces: int, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MASK_FLOATS", B * LAYOUT.tokens * -(-Q // pieces))
    windows = random_windows(seed)
    tensors = inputs(seed, scale)
    weights = drawn(B, HEADS, Q, E, seed=9).detach()
    bias = AttentionBias(per_sensor=tensors[3], windows=windows, implementation="masked")

    ours, reference = (attend(*tensors[:3], bias) for attend in (masked_attention, dense_attention))

    close(ours, reference)
    for one, other in zip(
        torch.autograd.grad((ours * weights).sum(), tensors),
        torch.autograd.grad((reference * weights).sum(), tensors),
        strict=True,
    ):
        close(one, other)


def test_a_bias_of_zero_changes_nothing() -> None:
    query, key, value, _ = inputs(0)
    bias = AttentionBias(
        per_sensor=torch.zeros(B, Q, 2), windows=random_windows(0), implementation="auto"
    )
    plain = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    close(biased_attention(query, key, value, bias), plain)


def test_a_query_without_windows_gets_no_gradient_on_its_bias() -> None:
    tensors = inputs(0)
    bias = AttentionBias(per_sensor=tensors[3], windows=random_windows(0), implementation="masked")
    (grad,) = torch.autograd.grad(masked_attention(*tensors[:3], bias).square().sum(), tensors[3:])
    assert (grad[:, NOTHING] == 0).all()
    assert (grad != 0).any()


def test_nothing_as_large_as_queries_times_tokens_is_kept_for_the_backward_pass() -> None:
    tensors = inputs(0)
    bias = AttentionBias(per_sensor=tensors[3], windows=random_windows(0), implementation="masked")
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda one: (kept.append(one.numel()), one)[1], lambda one: one
    ):
        masked_attention(*tensors[:3], bias)
    assert max(kept) == B * HEADS * LAYOUT.tokens * E  # the keys
