"""Attention with an AQR bias on its scores: a readable reference, and flash kernels with a mask.

`masked_attention` never holds queries x tokens x heads: the kernels it calls do not, and the mask
(no heads) is made for some queries at a time, for the forward and again for the backward pass. The
third implementation, for CUDA, is in `shared.model.attention.flex`; all three mean the same.

B samples, Q queries, N memory tokens, W tokens of the windows, E width of a head.
"""

from typing import Any

import torch
from torch import Tensor

from shared.model.attention.attention_bias import AttentionBias
from shared.model.attention.bias_gradient import bias_gradient
from shared.model.attention.flash import attend, attend_backward
from shared.model.attention.windows import LocalWindows

FLEX_DEVICE = "cuda"  # where "auto" means FlexAttention, if it runs
MASK_FLOATS = 2**25  # of the mask at a time: 128 MiB; every further piece costs a pass over N
MASK_ROW = 16  # rows of the mask begin at multiples of that many numbers: the CUDA kernel wants it


def biased_attention(query: Tensor, key: Tensor, value: Tensor, bias: AttentionBias) -> Tensor:
    """Attend with a bias inside each query's windows.

    Args:
        query: (B, heads, Q, E).
        key: (B, heads, N, E).
        value: (B, heads, N, E).
        bias: on the scores, the same for all heads.

    Returns:
        (B, heads, Q, E).
    """
    if bias.implementation == "dense":
        return dense_attention(query, key, value, bias)
    is_asked = bias.implementation == "flex"
    if is_asked or (bias.implementation == "auto" and query.device.type == FLEX_DEVICE):
        from shared.model.attention.flex import flex_biased_attention, flex_runs  # slow to import

        if is_asked or flex_runs(query, key, value, bias):
            return flex_biased_attention(query, key, value, bias)
    return masked_attention(query, key, value, bias)


def dense_attention(query: Tensor, key: Tensor, value: Tensor, bias: AttentionBias) -> Tensor:
    """Attend as the definition says, with every score in memory; arguments as above."""
    added = bias.windows.dense(bias.per_sensor).unsqueeze(1)  # (B, 1, Q, N)
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5 + added
    attended: Tensor = scores.softmax(dim=-1).to(value) @ value
    return attended


def masked_attention(query: Tensor, key: Tensor, value: Tensor, bias: AttentionBias) -> Tensor:
    """Attend with flash kernels, some queries at a time; arguments as above."""
    attended: Tensor = _MaskedAttention.apply(  # type: ignore[no-untyped-call]
        query, key, value, bias.per_sensor, bias.windows
    )
    return attended


class _MaskedAttention(torch.autograd.Function):
    """Attention with a mask made piece by piece; kept are inputs, output and log-sum-exp."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        per_sensor: Tensor,
        windows: LocalWindows,
    ) -> Tensor:
        pieces = [
            attend(query[:, :, part], key, value, _mask(per_sensor, windows, part, query.dtype))
            for part in _parts(query, windows)
        ]
        attended = torch.cat([one for one, _ in pieces], dim=2)
        log_sum = torch.cat([one for _, one in pieces], dim=2)  # (B, heads, Q)
        ctx.save_for_backward(query, key, value, per_sensor, attended, log_sum)
        ctx.windows = windows
        return attended

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        query, key, value, per_sensor, attended, log_sum = ctx.saved_tensors
        windows: LocalWindows = ctx.windows
        into_query = []
        into_key, into_value = torch.zeros_like(key), torch.zeros_like(value)
        for part in _parts(query, windows):
            mask = _mask(per_sensor, windows, part, query.dtype)
            found = attend_backward(
                grad[:, :, part],
                query[:, :, part],
                key,
                value,
                mask,
                attended[:, :, part],
                log_sum[:, :, part],
            )
            into_query.append(found[0])
            into_key += found[1]
            into_value += found[2]
        into_bias = None
        if ctx.needs_input_grad[3]:
            into_bias = bias_gradient(
                grad, query, key, value, per_sensor, attended, log_sum, windows
            )
        return torch.cat(into_query, dim=2), into_key, into_value, into_bias, None


def _parts(query: Tensor, windows: LocalWindows) -> list[slice]:
    """Cut the queries so that the mask of a part fits `MASK_FLOATS`."""
    samples, _, queries, _ = query.shape
    step = max(1, MASK_FLOATS // (samples * windows.cells.layout.tokens))
    return [slice(at, at + step) for at in range(0, queries, step)]


def _mask(per_sensor: Tensor, windows: LocalWindows, part: slice, dtype: torch.dtype) -> Tensor:
    """Return (B, 1, C, N) of the part's queries."""
    biases = windows.spread(per_sensor)[:, part].to(dtype)  # (B, C, W)
    tokens = windows.cells.layout.tokens
    room = -(-tokens // MASK_ROW) * MASK_ROW
    mask = biases.new_zeros(*biases.shape[:2], room)
    mask.scatter_add_(2, windows.tokens[:, part], biases)
    return mask[..., :tokens].unsqueeze(1)
