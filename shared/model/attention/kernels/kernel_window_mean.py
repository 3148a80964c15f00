"""The mean of the tokens in a query's windows by Triton kernels: launches and autograd.

The kernels are in window_mean_kernels.py; the readable twin is `window_mean.gathered_window_mean`.

B samples, Q queries, N memory tokens, D width, M maps.
"""

# mypy: disable-error-code="import,no-untyped-call"

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import triton
from torch import Tensor

from shared.model.attention.kernels.window_mean_kernels import (
    PATCH,
    folded_gradient_kernel,
    memory_gradient_kernel,
    window_mean_kernel,
)
from shared.model.attention.windows.local_windows import NOWHERE, LocalWindows, TokenLayout

CELLS = 8  # of a window at a time: more would not fit the registers
QUERY_WARPS, TOKEN_WARPS = 4, 8  # of a query's program, and of a patch's


def kernel_window_mean(
    folded: Tensor, keys: Tensor, values: Tensor, types: Tensor, windows: LocalWindows
) -> Tensor:
    """Return (B, heads, Q, D); arguments as for `window_mean.window_mean`, on CUDA."""
    mean: Tensor = _KernelWindowMean.apply(
        folded.contiguous(), keys.contiguous(), values.contiguous(), types.contiguous(), windows
    )
    return mean


class _KernelWindowMean(torch.autograd.Function):
    """Keeps inputs, output and log-sum-exp for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        folded: Tensor,
        keys: Tensor,
        values: Tensor,
        types: Tensor,
        windows: LocalWindows,
    ) -> Tensor:
        samples, heads, queries, width = folded.shape
        mean, log_sum = torch.empty_like(folded), torch.empty_like(folded[..., 0])
        with torch.cuda.device_of(folded):
            window_mean_kernel[(queries, samples)](
                folded, keys, values, types, *_centres(windows), mean, log_sum,
                queries, keys.shape[1], *_sizes(windows), heads=heads, width=width,
                wide=triton.next_power_of_2(width), head_rows=triton.next_power_of_2(heads),
                block_cells=CELLS, num_warps=QUERY_WARPS,
            )  # fmt: skip
        ctx.save_for_backward(folded, keys, values, types, mean, log_sum)
        ctx.windows = windows
        return mean

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        folded, keys, values, types, mean, log_sum = ctx.saved_tensors
        windows: LocalWindows = ctx.windows
        layout = windows.cells.layout
        grad = grads[0].contiguous()
        samples, heads, queries, width = folded.shape
        of_folded, mean_gains = torch.empty_like(folded), torch.empty_like(log_sum)
        of_keys, of_values = (torch.empty_like(t, dtype=torch.float32) for t in (keys, values))
        centres, sizes, order = _centres(windows), _sizes(windows), order_by_map(windows)
        wide, head_rows = triton.next_power_of_2(width), triton.next_power_of_2(heads)
        with torch.cuda.device_of(folded):
            folded_gradient_kernel[(queries, samples)](
                folded, keys, values, types, *centres, mean, log_sum, grad, of_folded, mean_gains,
                queries, keys.shape[1], *sizes, heads=heads, width=width, wide=wide,
                head_rows=head_rows, block_cells=CELLS, num_warps=QUERY_WARPS,
            )  # fmt: skip
            memory_gradient_kernel[(_patches(layout), samples)](
                folded, keys, values, types, *centres, order.queries, order.starts, log_sum,
                mean_gains, grad, of_keys, of_values,
                queries, keys.shape[1], *sizes, order.starts.shape[2], heads=heads, width=width,
                wide=wide, head_rows=head_rows, num_warps=TOKEN_WARPS,
            )  # fmt: skip
        of_types = None
        if ctx.needs_input_grad[3]:
            # A type is added to the keys and the values of all tokens of its sensor.
            by_sensor = [layout.bev_tokens, keys.shape[1] - layout.bev_tokens]
            of_both = (of_keys + of_values).sum(dim=0).split(by_sensor)
            of_types = torch.stack([of_sensor.sum(dim=0) for of_sensor in of_both])
        return of_folded, of_keys.to(keys), of_values.to(values), of_types, None


@dataclass(frozen=True, kw_only=True, slots=True)
class MapOrder:
    """On each map, the queries by the cell their window is around.

    Cells are counted strip by strip of `PATCH` rows, and column by column inside a strip, so that
    the queries between two columns of a strip are neighbours.

    Args:
        queries: (B, M, Q) int32, those without a window behind the others.
        starts: (B, M, columns x strips + 1) int32, where each column of a strip begins.
    """

    queries: Tensor
    starts: Tensor


def order_by_map(windows: LocalWindows) -> MapOrder:
    """Sort the queries of each map."""
    centres, layout = windows.centres, windows.cells.layout  # (B, M, Q, 2)
    patch = int(PATCH)
    rows, columns = _map_sizes(layout, centres.device)  # (M, 1)
    places = max(-(-r // patch) * c for r, c in (layout.bev, layout.camera[1:]))
    # A window around a cell off its map may still reach it: it counts at the border.
    row = torch.minimum(centres[..., 0].clamp(min=0), rows - 1)
    column = torch.minimum(centres[..., 1].clamp(min=0), columns - 1)
    key = (row // patch * columns + column).masked_fill(centres[..., 0] == NOWHERE, places)
    ordered, queries = key.sort(dim=-1, stable=True)
    wanted = torch.arange(places + 1, device=key.device, dtype=key.dtype)
    starts = torch.searchsorted(
        ordered, wanted.expand(*key.shape[:2], -1).contiguous(), out_int32=True
    )
    return MapOrder(queries=queries.int(), starts=starts)


@lru_cache(maxsize=16)
def _map_sizes(layout: TokenLayout, device: torch.device) -> Tensor:
    """Return (2, M, 1) int32: rows and columns of the maps."""
    maps = [layout.bev] + [layout.camera[1:]] * layout.camera[0]
    return torch.tensor(maps, dtype=torch.int32).T.unsqueeze(-1).to(device)


def _centres(windows: LocalWindows) -> tuple[Tensor, Tensor]:
    """Return (B, M, Q) rows and columns."""
    rows, columns = windows.centres.unbind(-1)
    return rows.contiguous(), columns.contiguous()


def _sizes(windows: LocalWindows) -> tuple[int, ...]:
    """Return what the kernels have to know of the maps and windows."""
    views, camera_rows, camera_columns = windows.cells.layout.camera
    sides = (windows.bev_side, windows.camera_side)
    return (1 + views, *windows.cells.layout.bev, camera_rows, camera_columns, *sides)


def _patches(layout: TokenLayout) -> int:
    """Return into how many patches the maps are cut."""
    views, *camera = layout.camera
    patch = int(PATCH)
    bev, each = (-(-rows // patch) * -(-columns // patch) for rows, columns in (layout.bev, camera))
    return bev + views * each
