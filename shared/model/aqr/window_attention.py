"""Attention of queries to the few tokens in their windows, without a score for any other token.

The tokens are gathered for some queries at a time and again in the backward pass, so that what is
kept for it is what came in. Its readable twin is `ProjectedAttention` with a mask over all tokens;
the parameters are the same.

B samples, Q queries, N memory tokens, W tokens of the windows, D width, C queries at a time.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from shared.model.aqr.windows import LocalWindows
from shared.model.decoder import ProjectedAttention

GATHERED_FLOATS = 2**21  # gathered at a time, per tensor: 8 MiB stay in a CPU's cache
HIDDEN = torch.finfo(torch.float32).min


class WindowAttention(ProjectedAttention):
    """Multi-head attention inside windows, with the parameters of `nn.MultiheadAttention`.

    Keys and values of the whole memory are never projected: a head's scores are taken with the
    query brought back through the key projection, and its mean of raw values is projected after.
    """

    def look(
        self, queries: Tensor, keys: Tensor, values: Tensor, types: Tensor, windows: LocalWindows
    ) -> Tensor:
        """Attend.

        Args:
            queries: (B, Q, D).
            keys: (B, N, D), both sensors.
            values: (B, N, D).
            types: (2, D), added to keys and values of the LiDAR's and the cameras' tokens.
            windows: which tokens each query sees.

        Returns:
            (B, Q, D); where a window is empty, what zero values would give.
        """
        samples, count, width = queries.shape
        weight_q, weight_k, weight_v = self.in_proj_weight.chunk(3)
        bias_q, _, bias_v = self.in_proj_bias.chunk(3)  # a key bias moves all scores alike
        size = width // self.heads
        query = functional.linear(queries, weight_q, bias_q) * size**-0.5
        query = query.view(samples, count, self.heads, size)
        folded = torch.einsum(
            "bqhe,hed->bqhd", query, weight_k.view(self.heads, size, width)
        )  # (B, Q, heads, D)
        seen: Tensor = _WindowMean.apply(folded, keys, values, types, windows)  # type: ignore[no-untyped-call]
        merged = torch.einsum("bqhd,hed->bqhe", seen, weight_v.view(self.heads, size, width))
        result: Tensor = self.out_proj(merged.flatten(-2) + bias_v)  # (B, Q, D)
        return result


class _WindowMean(torch.autograd.Function):
    """Softmax over the windows, and the mean of the values under it; (B, Q, heads, D)."""

    @staticmethod
    def forward(
        ctx: Any,
        folded: Tensor,
        keys: Tensor,
        values: Tensor,
        types: Tensor,
        windows: LocalWindows,
    ) -> Tensor:
        ctx.save_for_backward(folded, keys, values, types)
        ctx.windows = windows
        seen = torch.empty_like(folded)
        for sample, part in _parts(folded, windows):
            tokens = windows.tokens[sample, part]
            seen[sample, part] = _mean(
                folded[sample, part],
                keys[sample][tokens],
                values[sample][tokens],
                types,
                windows.inside[sample, part],
                windows.bev_columns,
            )
        return seen

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        folded, keys, values, types = ctx.saved_tensors
        windows: LocalWindows = ctx.windows
        columns = windows.bev_columns
        into_folded = torch.empty_like(folded)
        into_keys, into_values, into_types = (
            torch.zeros_like(one, dtype=torch.float32) for one in (keys, values, types)
        )
        for sample, part in _parts(folded, windows):
            tokens = windows.tokens[sample, part]
            inputs = [
                one.detach().requires_grad_()
                for one in (
                    folded[sample, part],
                    keys[sample][tokens],
                    values[sample][tokens],
                    types,
                )
            ]
            query, near_keys, near_values, kinds = inputs
            with torch.enable_grad():
                seen = _mean(
                    query, near_keys, near_values, kinds, windows.inside[sample, part], columns
                )
            found = torch.autograd.grad(seen, inputs, grad[sample, part])
            into_folded[sample, part] = found[0]
            flat = tokens.flatten()
            into_keys[sample].index_add_(0, flat, found[1].flatten(0, 1).float())
            into_values[sample].index_add_(0, flat, found[2].flatten(0, 1).float())
            into_types += found[3]
        return into_folded, into_keys.to(keys), into_values.to(values), into_types.to(types), None


def _parts(folded: Tensor, windows: LocalWindows) -> list[tuple[int, slice]]:
    """Cut the queries of every sample so that a part's tokens fit `GATHERED_FLOATS`."""
    samples, queries, _, width = folded.shape
    step = max(1, GATHERED_FLOATS // (windows.tokens.shape[-1] * width))
    starts = range(0, queries, step)
    return [(sample, slice(at, at + step)) for sample in range(samples) for at in starts]


def _mean(
    folded: Tensor, keys: Tensor, values: Tensor, types: Tensor, inside: Tensor, bev_columns: int
) -> Tensor:
    """Return (C, heads, D) of (C, heads, D) queries and their gathered (C, W, D) tokens."""
    keys, values = keys.float(), values.float()
    scores = torch.bmm(folded, keys.transpose(1, 2))  # (C, heads, W)
    of_type = folded @ types.T  # (C, heads, 2)
    is_camera = torch.arange(inside.shape[-1], device=inside.device) >= bev_columns
    scores = scores + torch.where(is_camera, of_type[..., 1:], of_type[..., :1])
    scores = scores.masked_fill(~inside.unsqueeze(1), HIDDEN)
    # Times `inside`, because the softmax of an empty window would be even instead of nothing.
    shares = scores.softmax(dim=-1) * inside.unsqueeze(1)
    bev, camera = shares[..., :bev_columns], shares[..., bev_columns:]
    masses = torch.stack([bev.sum(dim=-1), camera.sum(dim=-1)], dim=-1)  # (C, heads, 2)
    return torch.bmm(shares, values) + masses @ types
