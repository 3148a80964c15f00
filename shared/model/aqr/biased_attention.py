"""Attention with an AQR bias on its scores: a readable reference, and flash kernels with a mask.

`masked_attention` never holds queries x tokens x heads: the kernels it calls do not, and the mask
(no heads) is made for some queries at a time, for the forward and again for the backward pass. The
third implementation, for CUDA, is in `shared.model.aqr.flex`; all three mean the same.

B samples, Q queries, N memory tokens, W tokens of the windows, E width of a head.
"""

from typing import Any

import torch
from torch import Tensor

from shared.model.aqr.attention_bias import AttentionBias, Implementation
from shared.model.aqr.flash import attend, attend_backward
from shared.model.aqr.window_matrix import WindowMatrix
from shared.model.aqr.windows import LocalWindows

MASK_FLOATS = 2**25  # of the mask at a time: 128 MiB; every further piece costs a pass over N


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
    if _chosen(bias.implementation, query) == "flex":
        from shared.model.aqr.flex import flex_biased_attention  # compiles: only where it is used

        return flex_biased_attention(query, key, value, bias)
    if bias.implementation == "dense":
        return dense_attention(query, key, value, bias)
    return masked_attention(query, key, value, bias)


def _chosen(implementation: Implementation, query: Tensor) -> Implementation:
    """Return the implementation that "auto" means on the query's device."""
    if implementation != "auto":
        return implementation
    return "flex" if query.is_cuda else "masked"


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
            into_bias = _bias_gradient(
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
    mask = biases.new_zeros(*biases.shape[:2], windows.cells.layout.tokens)
    return mask.scatter_add_(2, windows.tokens[:, part], biases).unsqueeze(1)


def _bias_gradient(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    per_sensor: Tensor,
    attended: Tensor,
    log_sum: Tensor,
    windows: LocalWindows,
) -> Tensor:
    """Return the gradient of (B, Q, 2) biases: that of all scores they were added to, summed.

    The gradient of a score is its share of the attention times how much better its value would
    have done than the mean did; only scores inside the windows are needed.
    """
    found = torch.zeros_like(per_sensor)
    added, bev_columns = windows.spread(per_sensor), windows.bev_columns
    better_than = (grad.float() * attended.float()).sum(dim=-1)  # (B, heads, Q)
    samples, heads, _, size = query.shape
    for sample in range(samples):
        matrix = WindowMatrix(windows, sample)
        for head in range(heads):
            rows, gains_of, near, worth = (
                one[sample, head].float() for one in (query, grad, key, value)
            )
            scores = matrix.products(rows * size**-0.5, near) + added[sample]  # (Q, W)
            shares = (scores - log_sum[sample, head].unsqueeze(-1)).exp()
            gains = matrix.products(gains_of, worth) - better_than[sample, head].unsqueeze(-1)
            of_score = shares * gains * matrix.inside
            of_bev, of_camera = of_score[:, :bev_columns], of_score[:, bev_columns:]
            found[sample] += torch.stack([of_bev.sum(-1), of_camera.sum(-1)], dim=-1)
    return found
