"""Attention with a bias on a CPU: torch's flash kernel and a mask, some queries at a time.

Queries x tokens x heads are never in memory: the kernel does not hold them, and the mask (no heads)
is made for some queries at a time, for the forward pass and again for the backward pass.

B samples, Q queries, N memory tokens, C queries of a piece, W tokens of the windows, E width of a
head.
"""

from typing import Any

import torch
from torch import Tensor

from shared.model.attention.cpu.bias_gradient import bias_gradient
from shared.model.attention.windows.attention_bias import AttentionBias

MASK_FLOATS = 2**25  # of the mask at a time: 128 MiB; every further piece costs a pass over N
MASK_ROW = 16  # rows of the mask begin at multiples of that many numbers


def masked_attention(query: Tensor, key: Tensor, value: Tensor, bias: AttentionBias) -> Tensor:
    """Attend; arguments as for `biased_attention.biased_attention`, on a CPU."""
    attended: Tensor = _MaskedAttention.apply(  # type: ignore[no-untyped-call]
        query, key, value, bias.per_sensor, bias
    )
    return attended


class _MaskedAttention(torch.autograd.Function):
    """Attention with a mask made piece by piece; it keeps inputs, output and log-sum-exp."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        per_sensor: Tensor,
        bias: AttentionBias,
    ) -> Tensor:
        results = [
            torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                query[:, :, piece], key, value, attn_mask=_mask(bias, piece, query.dtype)
            )
            for piece in _pieces(query, bias)
        ]
        attended = torch.cat([result[0] for result in results], dim=2)
        log_sum = torch.cat([result[1] for result in results], dim=2)  # (B, heads, Q) float32
        ctx.save_for_backward(query, key, value, attended, log_sum)
        ctx.bias = bias
        return attended

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        query, key, value, attended, log_sum = ctx.saved_tensors
        bias: AttentionBias = ctx.bias
        of_query = []
        of_key, of_value = torch.zeros_like(key), torch.zeros_like(value)
        for piece in _pieces(query, bias):
            gradients = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                grad[:, :, piece],
                query[:, :, piece],
                key,
                value,
                attended[:, :, piece],
                log_sum[:, :, piece],
                0.0,
                False,
                attn_mask=_mask(bias, piece, query.dtype),
            )
            of_query.append(gradients[0])
            of_key += gradients[1]
            of_value += gradients[2]
        of_bias = None
        if ctx.needs_input_grad[3]:
            of_bias = bias_gradient(grad, query, key, value, attended, log_sum, bias)
        return torch.cat(of_query, dim=2), of_key, of_value, of_bias, None


def _pieces(query: Tensor, bias: AttentionBias) -> list[slice]:
    """Cut the queries so that the mask of a piece fits `MASK_FLOATS`."""
    samples, _, queries, _ = query.shape
    step = max(1, MASK_FLOATS // (samples * bias.windows.cells.layout.tokens))
    return [slice(start, start + step) for start in range(0, queries, step)]


def _mask(bias: AttentionBias, piece: slice, dtype: torch.dtype) -> Tensor:
    """Return (B, 1, C, N) of the piece's queries."""
    added = bias.in_windows()[:, piece].detach().to(dtype)  # (B, C, W)
    tokens = bias.windows.cells.layout.tokens
    padded = -(-tokens // MASK_ROW) * MASK_ROW
    mask = added.new_zeros(*added.shape[:2], padded)
    mask.scatter_add_(2, bias.windows.tokens[:, piece], added)
    return mask[..., :tokens].unsqueeze(1)
