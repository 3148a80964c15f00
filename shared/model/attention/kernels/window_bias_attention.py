"""Attention with a bias inside windows by Triton kernels: launches and autograd.

The kernels are in window_bias_kernels.py and window_bias_gradient_kernels.py, how the work is cut
in tile_schedule.py, and the readable twin is `biased_attention.dense_attention`.

B samples, Q queries, N memory tokens, E width of a head, M maps, P queries padded to whole blocks.
"""

# mypy: disable-error-code="import,no-untyped-call"

import math
from typing import Any

import torch
import triton
from torch import Tensor

from shared.model.attention.kernels.kernel_sizes import (
    KernelSizes,
    float32_products,
    kernel_sizes,
)
from shared.model.attention.kernels.window_bias_gradient_kernels import (
    key_gradient_kernel,
    query_gradient_kernel,
)
from shared.model.attention.kernels.window_bias_kernels import attend_kernel
from shared.model.attention.windows.attention_bias import AttentionBias
from shared.model.attention.windows.tile_schedule import Tile, token_cells

LOG2_E = math.log2(math.e)
NARROWEST = 16  # product of tiles that tensor cores take


def window_bias_attention(
    query: Tensor, key: Tensor, value: Tensor, bias: AttentionBias, sizes: KernelSizes | None = None
) -> Tensor:
    """Attend; arguments as for `biased_attention.biased_attention`, for a bias inside windows.

    `sizes` are those of the table for the device unless they are tried out.
    """
    sizes = sizes or kernel_sizes(query.device, query.dtype, query.shape[-1])
    # As the projections leave them: no copy. Autograd sees the transposes.
    rows = (tensor.transpose(1, 2).contiguous() for tensor in (query, key, value))
    attended: Tensor = _WindowBiasAttention.apply(*rows, bias.per_sensor.float(), bias, sizes)
    return attended.transpose(1, 2)


class _WindowBiasAttention(torch.autograd.Function):
    """(B, Q, heads, E); keeps inputs, output and log-sum-exp for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        per_sensor: Tensor,
        bias: AttentionBias,
        sizes: KernelSizes,
    ) -> Tensor:
        samples, _, heads, _ = query.shape
        per_sensor = per_sensor.contiguous()
        queries = bias.tiles.queries
        padded = queries.place.shape[1]
        attended = torch.empty_like(query)
        log_sum = query.new_empty((samples, heads, padded), dtype=torch.float32)
        cells = token_cells(bias.windows.cells.layout, query.device)
        tile = sizes.forward
        tiles = bias.tiles.schedule(tile)
        _Launch(query, key, bias, tile)(
            attend_kernel, padded // tile.queries,
            query, key, value, per_sensor, *cells, queries.place, queries.rows, queries.columns,
            tiles.tokens_of, tiles.plain_tokens, attended, log_sum,
        )  # fmt: skip
        ctx.save_for_backward(query, key, value, per_sensor, attended, log_sum)
        ctx.bias, ctx.sizes = bias, sizes
        return attended

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, per_sensor, attended, log_sum = ctx.saved_tensors
        bias: AttentionBias = ctx.bias
        sizes: KernelSizes = ctx.sizes
        grad = grads[0].contiguous()
        samples, count, heads, width = query.shape
        queries = bias.tiles.queries
        padded = queries.place.shape[1]
        of_query, of_key, of_value = (torch.empty_like(t) for t in (query, key, value))
        of_bias = log_sum.new_empty((samples, count, heads, 2))
        ordered_query, ordered_grad = (
            query.new_empty((samples, heads, padded, width)) for _ in range(2)
        )
        mean_gains = torch.empty_like(log_sum)
        cells = token_cells(bias.windows.cells.layout, query.device)
        common = (per_sensor, *cells, queries.place, queries.rows, queries.columns)

        tile = sizes.of_query
        tiles = bias.tiles.schedule(tile)
        _Launch(query, key, bias, tile)(
            query_gradient_kernel, padded // tile.queries,
            query, key, value, *common, tiles.tokens_of, tiles.plain_tokens,
            attended, log_sum, grad, of_query, of_bias, ordered_query, ordered_grad, mean_gains,
        )  # fmt: skip

        tile = sizes.of_key
        tiles = bias.tiles.schedule(tile)
        _Launch(query, key, bias, tile)(
            key_gradient_kernel, len(tiles.first_tokens),
            key, value, *common, tiles.first_tokens, tiles.queries_of, tiles.plain_queries,
            log_sum, ordered_query, ordered_grad, mean_gains, of_key, of_value,
        )  # fmt: skip
        into_bias = of_bias.sum(dim=2) if ctx.needs_input_grad[3] else None
        return of_query, of_key, of_value, into_bias, None, None


class _Launch:
    """Start a kernel with what all three share.

    Args:
        query: (B, Q, heads, E).
        key: (B, N, heads, E).
        bias: of the attention.
        tile: of the kernel.
    """

    def __init__(self, query: Tensor, key: Tensor, bias: AttentionBias, tile: Tile) -> None:
        self.query, self.key, self.bias, self.tile = query, key, bias, tile

    def __call__(self, kernel: Any, blocks: int, *tensors: Tensor) -> None:
        """Run one program for each block, head and sample."""
        samples, count, heads, width = self.query.shape
        windows, layout = self.bias.windows, self.bias.windows.cells.layout
        padded = self.bias.tiles.queries.place.shape[1]
        views, camera_rows, camera_columns = layout.camera
        sigma = self.bias.sigma_cells
        with torch.cuda.device_of(self.query):
            kernel[(blocks, heads, samples)](
                *tensors,
                count, padded, self.key.shape[1], layout.bev_tokens, camera_rows * camera_columns,
                1 + views, float(windows.bev_side // 2),
                float(windows.camera_side // 2), padded // self.tile.queries,
                len(self.bias.tiles.schedule(self.tile).first_tokens), width**-0.5 * LOG2_E,
                0.0 if sigma is None else -LOG2_E / (2.0 * sigma**2),
                heads=heads, width=width, wide=max(NARROWEST, triton.next_power_of_2(width)),
                gaussian=sigma is not None, products=float32_products(),
                block_queries=self.tile.queries, block_tokens=self.tile.tokens,
                stages=self.tile.stages, num_warps=self.tile.warps, num_stages=self.tile.stages,
            )  # fmt: skip
