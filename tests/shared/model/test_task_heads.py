"""Grouped heads: every decoder layer has its own weights."""

import pytest
import torch
from torch import nn

from shared.model.outputs import split_denoising
from shared.model.task_heads import NORM_EPS, GroupLayerNorm1d, TaskHeads

L, B, Q, D, HIDDEN, K = 2, 3, 5, 4, 6, 7


@pytest.fixture
def heads() -> TaskHeads:
    torch.manual_seed(0)
    return TaskHeads(layers=L, width=D, hidden=HIDDEN, classes=K)


def test_the_group_norm_is_a_layer_norm_per_group_and_query() -> None:
    norm = GroupLayerNorm1d(L * HIDDEN, groups=L)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    hidden = torch.randn(B, L * HIDDEN, Q, requires_grad=True)
    expected = torch.cat(
        [
            nn.functional.layer_norm(group.transpose(1, 2), (HIDDEN,), weight, bias, NORM_EPS)
            for group, weight, bias in zip(
                hidden.chunk(L, dim=1), norm.weight.chunk(L), norm.bias.chunk(L), strict=True
            )
        ],
        dim=2,
    ).transpose(1, 2)
    normed = norm(hidden)
    torch.testing.assert_close(normed, expected)
    loss = torch.randn_like(normed)
    torch.testing.assert_close(
        torch.autograd.grad(normed, hidden, loss, retain_graph=True),
        torch.autograd.grad(expected, hidden, loss),
    )


def test_the_group_norm_computes_half_precision_in_float32() -> None:
    hidden = torch.randn(B, L * HIDDEN, Q) * 1e4  # its square is beyond float16
    normed = GroupLayerNorm1d(L * HIDDEN, groups=L)(hidden.half())
    assert normed.dtype == torch.float32
    assert normed.isfinite().all()


def test_branches_have_their_sizes(heads: TaskHeads) -> None:
    sizes = {
        "center_xy_m": 2,
        "log_length": 1,
        "log_width_z_log_height": 3,
        "yaw_sin_cos": 2,
        "velocity_mps": 2,
        "class_logits": K,
    }
    shapes = {name: values.shape for name, values in heads(torch.randn(L, B, Q, D)).items()}
    assert shapes == {name: (L, B, Q, size) for name, size in sizes.items()}


def test_layers_do_not_influence_each_other(heads: TaskHeads) -> None:
    decoded = torch.randn(L, B, Q, D)
    moved = decoded.clone()
    moved[1, 2, 4] += 1.0
    before, after = heads(decoded)["yaw_sin_cos"], heads(moved)["yaw_sin_cos"]
    changed = (before != after).any(dim=-1)
    assert changed.nonzero().tolist() == [[1, 2, 4]]


def test_a_fresh_head_predicts_background(heads: TaskHeads) -> None:
    bias = heads.cls_logits[-1].bias
    assert torch.equal(bias, torch.full((L * K,), -2.19))
    assert bias.sigmoid().max().item() == pytest.approx(0.1, abs=1e-3)


def test_denoising_queries_come_first_and_are_split_off(heads: TaskHeads) -> None:
    predictions = heads(torch.randn(L, B, Q, D))
    outputs = split_denoising(predictions, None, padded=2)
    assert outputs.denoising is not None
    assert torch.equal(outputs.denoising.velocity_mps, predictions["velocity_mps"][:, :, :2])
    assert torch.equal(outputs.velocity_mps, predictions["velocity_mps"][:, :, 2:])
    assert split_denoising(predictions, None, padded=0).denoising is None
