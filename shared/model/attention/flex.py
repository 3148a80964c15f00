"""Attention with an AQR bias on FlexAttention: no mask anywhere, for CUDA.

The kernel asks for each score whether its token lies in the query's window, by the rows and columns
of both. It takes the bias as given: FlexAttention would add up the bias' gradient by one atomic
addition for each of queries x tokens x heads scores, in an order that changes from run to run, so
that gradient is made from the windows alone, as for the masked attention. The readable twin is
`biased_attention.dense_attention`.

B samples, Q queries, N memory tokens, E width of a head, M maps: BEV and one for each camera.
"""

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._dynamo.exc import FailOnRecompileLimitHit
from torch.nn.attention.flex_attention import AuxRequest, flex_attention

from shared.model.attention.attention_bias import AttentionBias
from shared.model.attention.bias_gradient import bias_gradient
from shared.model.attention.windows import LocalWindows

log = logging.getLogger(__name__)

NOWHERE = -(2**20)  # row of a window that is not there: no token is near it
SHORT = 128  # queries; torch has another kernel for fewer

ScoreChange = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def flex_biased_attention(query: Tensor, key: Tensor, value: Tensor, bias: AttentionBias) -> Tensor:
    """Attend; arguments as for `biased_attention.biased_attention`."""
    run: Any = _attend if query.is_cpu else _compiled
    attended, log_sum = run(query, key, value, score_change(bias))
    with_gradient: Tensor = _WithBiasGradient.apply(  # type: ignore[no-untyped-call]
        attended, bias.per_sensor, query, key, value, log_sum, bias.windows
    )
    return with_gradient


def flex_runs(query: Tensor, key: Tensor, value: Tensor, bias: AttentionBias) -> bool:
    """Return whether FlexAttention runs here, forward and backward; arguments as above.

    There may be no Triton, a GPU too old for it, or heads that its kernels cannot take. The kernels
    of the backward pass are made in the first backward pass, too late to choose another way, so
    that both passes are tried once for every kind of call that torch compiles anew.
    """
    samples, heads, queries, width = query.shape
    needed = torch.is_grad_enabled() and tuple(one.requires_grad for one in (query, key, value))
    kind = (query.device, query.dtype, samples == 1, queries < SHORT, heads, width, needed)
    if kind not in _runs:
        try:
            _try_both_passes(query, key, value, bias)
            _runs[kind] = True
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, FailOnRecompileLimitHit) as error:
            reason = " ".join(str(error).splitlines()[:2])  # the rest is torch's graph
            log.warning(
                "FlexAttention does not run on %s with %s heads of %d; AQR attends with a mask "
                "instead, which takes longer: %s", query.device, query.dtype, width, reason
            )  # fmt: skip
            _runs[kind] = False
    return _runs[kind]


_runs: dict[tuple[object, ...], bool] = {}


def _try_both_passes(query: Tensor, key: Tensor, value: Tensor, bias: AttentionBias) -> None:
    """Attend, and go back as far as the gradients are asked for."""
    query, key, value = (
        one.detach().requires_grad_(one.requires_grad) for one in (query, key, value)
    )
    attended = flex_biased_attention(query, key, value, bias)
    learning = [one for one in (query, key, value) if one.requires_grad]
    if torch.is_grad_enabled() and learning:
        torch.autograd.grad(attended, learning, torch.zeros_like(attended))


def _attend(
    query: Tensor, key: Tensor, value: Tensor, change: ScoreChange
) -> tuple[Tensor, Tensor]:
    """Return attended and the log-sum-exp of the scores, (B, heads, Q) float32."""
    attended, beside = flex_attention(
        query, key, value, score_mod=change, return_aux=AuxRequest(lse=True)
    )
    assert beside.lse is not None
    return attended, beside.lse.detach()


# Compiled when first called; the number of denoising queries changes from batch to batch. Without
# `fullgraph` a function that was compiled too often would go on with all scores in memory.
_compiled = torch.compile(_attend, dynamic=True, fullgraph=True)


def score_change(bias: AttentionBias) -> ScoreChange:
    """Return what FlexAttention calls with each score, its sample, head, query and token."""
    windows = bias.windows
    place, row, column, reach = _token_tables(windows)  # (N,)
    centre_row, centre_column = _centres(windows)  # (B, M, Q)
    cameras = windows.cells.layout.camera[0]
    of_maps = bias.per_sensor.detach().transpose(1, 2)  # (B, 2, Q)
    added = torch.cat([of_maps[:, :1], of_maps[:, 1:].expand(-1, cameras, -1)], dim=1)  # (B, M, Q)

    def change(score: Tensor, b: Tensor, h: Tensor, q: Tensor, token: Tensor) -> Tensor:
        at = place[token]
        near = ((row[token] - centre_row[b, at, q]).abs() <= reach[token]) & (
            (column[token] - centre_column[b, at, q]).abs() <= reach[token]
        )
        return score + torch.where(near, added[b, at, q], 0.0)

    return change


def _token_tables(windows: LocalWindows) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return for each token its map, row, column, and how far windows reach there; (N,) int32."""
    layout, device = windows.cells.layout, windows.tokens.device
    cameras, rows, columns = layout.camera
    tables = []
    for first, maps, size, side in (
        (0, 1, layout.bev, windows.bev_side),
        (1, cameras, (rows, columns), windows.camera_side),
    ):
        ranges = (torch.arange(n, dtype=torch.int32, device=device) for n in (maps, *size))
        at, row, column = (one.flatten() for one in torch.meshgrid(*ranges, indexing="ij"))
        tables.append(torch.stack([at + first, row, column, torch.full_like(at, side // 2)]))
    place, row, column, reach = torch.cat(tables, dim=1)
    return place, row, column, reach


def _centres(windows: LocalWindows) -> tuple[Tensor, Tensor]:
    """Return (B, M, Q) int32 rows and columns of the windows, `NOWHERE` without one."""
    cells = windows.cells
    centres = torch.cat([cells.bev.unsqueeze(1), cells.camera], dim=1)
    exists = torch.cat([cells.on_grid.unsqueeze(1), cells.seen], dim=1)
    rows, columns = centres.unbind(-1)
    return rows.where(exists, NOWHERE).int(), columns.where(exists, NOWHERE).int()


class _WithBiasGradient(torch.autograd.Function):
    """Hand `attended` on, and give the bias its gradient on the way back."""

    @staticmethod
    def forward(
        ctx: Any,
        attended: Tensor,
        per_sensor: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        log_sum: Tensor,
        windows: LocalWindows,
    ) -> Tensor:
        ctx.save_for_backward(attended, per_sensor, query, key, value, log_sum)
        ctx.windows = windows
        return attended.view_as(attended)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        attended, per_sensor, query, key, value, log_sum = ctx.saved_tensors
        into_bias = None
        if ctx.needs_input_grad[1]:
            into_bias = bias_gradient(
                grad, query, key, value, per_sensor, attended, log_sum, ctx.windows
            )
        return grad, into_bias, None, None, None, None, None
