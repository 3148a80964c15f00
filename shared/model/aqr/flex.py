"""Attention with an AQR bias on FlexAttention: no mask anywhere, for CUDA.

The kernel asks for each score whether its token lies in the query's window, by the rows and columns
of both. Torch refuses the backward pass of FlexAttention on a CPU. Its readable twin is
`biased_attention.dense_attention`.

B samples, Q queries, N memory tokens, E width of a head.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention

from shared.model.aqr.attention_bias import AttentionBias
from shared.model.aqr.windows import LocalWindows

NOWHERE = -(2**20)  # row of a window that is not there: no token is near it

ScoreChange = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]

# Compiled when first called; the number of denoising queries changes from batch to batch.
_compiled = torch.compile(flex_attention, dynamic=True)


def flex_biased_attention(query: Tensor, key: Tensor, value: Tensor, bias: AttentionBias) -> Tensor:
    """Attend; arguments as for `biased_attention.biased_attention`."""
    change = score_change(bias)
    run: Any = _compiled if query.is_cuda else flex_attention
    attended: Tensor = run(query, key, value, score_mod=change)
    return attended


def score_change(bias: AttentionBias) -> ScoreChange:
    """Return what FlexAttention calls with each score, its sample, head, query and token."""
    windows = bias.windows
    layout = windows.cells.layout
    bev_tokens, bev_columns = layout.bev_tokens, layout.bev[1]
    _, rows, columns = layout.camera
    bev_reach, camera_reach = windows.bev_side // 2, windows.camera_side // 2
    bev, camera = _centres(windows)
    per_sensor = bias.per_sensor

    def change(score: Tensor, b: Tensor, h: Tensor, q: Tensor, token: Tensor) -> Tensor:
        row, column = token // bev_columns, token % bev_columns
        near_bev = ((row - bev[b, q, 0]).abs() <= bev_reach) & (
            (column - bev[b, q, 1]).abs() <= bev_reach
        )
        is_bev = token < bev_tokens
        pixel = torch.where(is_bev, 0, token - bev_tokens)
        view, place = pixel // (rows * columns), pixel % (rows * columns)
        row, column = place // columns, place % columns
        near_camera = ((row - camera[b, view, q, 0]).abs() <= camera_reach) & (
            (column - camera[b, view, q, 1]).abs() <= camera_reach
        )
        lidar = torch.where(is_bev & near_bev, per_sensor[b, q, 0], 0.0)
        cameras = torch.where(~is_bev & near_camera, per_sensor[b, q, 1], 0.0)
        return score + lidar + cameras

    return change


def _centres(windows: LocalWindows) -> tuple[Tensor, Tensor]:
    """Return (B, Q, 2) and (B, V, Q, 2) int32 rows and columns, `NOWHERE` without a window."""
    cells = windows.cells
    bev = cells.bev.masked_fill(~cells.on_grid.unsqueeze(-1), NOWHERE)
    camera = cells.camera.masked_fill(~cells.seen.unsqueeze(-1), NOWHERE)
    return bev.int(), camera.int()
