"""Attention of queries to the few tokens in their windows, without a score for any other token.

Its readable twin is `ProjectedAttention` with a mask over all tokens; the parameters are the same.

B samples, Q queries, N memory tokens, W tokens of the windows, D width, R rows (queries x heads).
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from shared.model.aqr.window_matrix import WindowMatrix
from shared.model.aqr.windows import LocalWindows
from shared.model.decoder import ProjectedAttention

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
        samples, queries, heads, _ = folded.shape
        kinds = windows.bev_columns
        shares = folded.new_empty(samples, queries * heads, windows.tokens.shape[-1])  # (B, R, W)
        seen = torch.empty_like(folded)
        for sample in range(samples):
            matrix = WindowMatrix(windows, sample, heads)
            rows = folded[sample].flatten(0, 1)  # (R, D)
            scores = matrix.products(rows, keys[sample].float()) + _of_type(rows, types, windows)
            scores = scores.masked_fill(~matrix.inside, HIDDEN)
            # Times `inside`, because the softmax of an empty window would be even, not nothing.
            shares[sample] = scores.softmax(dim=-1) * matrix.inside
            mean = matrix.gather(shares[sample], values[sample].float())
            seen[sample] = (mean + _by_type(shares[sample], kinds) @ types).view_as(seen[sample])
        ctx.save_for_backward(folded, keys, values, types, shares)
        ctx.windows = windows
        return seen

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        folded, keys, values, types, shares = ctx.saved_tensors
        windows: LocalWindows = ctx.windows
        kinds = windows.bev_columns
        into_folded, into_types = torch.empty_like(folded), torch.zeros_like(types)
        into_keys, into_values = (
            torch.empty_like(one, dtype=torch.float32) for one in (keys, values)
        )
        for sample, grad in enumerate(grads[0].flatten(1, 2)):  # (R, D)
            matrix = WindowMatrix(windows, sample, folded.shape[2])
            rows, share = folded[sample].flatten(0, 1), shares[sample]
            into_share = matrix.products(grad, values[sample].float()) + _of_type(
                grad, types, windows
            )
            # The gradient of a score: its share times how much better it does than the mean.
            mean = (share * into_share).sum(dim=-1, keepdim=True)
            into_score = share * (into_share - mean)
            of_kind = _by_type(into_score, kinds)
            into_row = matrix.gather(into_score, keys[sample].float()) + of_kind @ types
            into_folded[sample] = into_row.view_as(into_folded[sample])
            matrix.scatter(into_score, rows, out=into_keys[sample])
            matrix.scatter(share, grad, out=into_values[sample])
            into_types += of_kind.T @ rows + _by_type(share, kinds).T @ grad
        return into_folded, into_keys.to(keys), into_values.to(values), into_types, None


def _of_type(rows: Tensor, types: Tensor, windows: LocalWindows) -> Tensor:
    """Return (R, W): each row's vector (R, D) times the type of its tokens."""
    return (rows @ types.T)[:, windows.sensor]


def _by_type(entries: Tensor, bev_columns: int) -> Tensor:
    """Return (R, 2): the sums over LiDAR and camera tokens of (R, W) entries."""
    bev, camera = entries[:, :bev_columns], entries[:, bev_columns:]
    return torch.stack([bev.sum(dim=-1), camera.sum(dim=-1)], dim=-1)
