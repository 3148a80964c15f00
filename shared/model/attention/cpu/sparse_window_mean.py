"""The mean of the tokens in a query's windows on a CPU: products of sparse matrices.

B samples, Q queries, N memory tokens, W tokens of the windows, D width.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from shared.model.attention.cpu.window_matrix import WindowMatrix
from shared.model.attention.windows.local_windows import LocalWindows

HIDDEN = torch.finfo(torch.float32).min


def sparse_window_mean(
    folded: Tensor, keys: Tensor, values: Tensor, types: Tensor, windows: LocalWindows
) -> Tensor:
    """Return (B, heads, Q, D); arguments as for `window_mean.window_mean`, on a CPU."""
    mean: Tensor = _SparseWindowMean.apply(  # type: ignore[no-untyped-call]
        folded, keys, values, types, windows
    )
    return mean


class _SparseWindowMean(torch.autograd.Function):
    """Softmax over the windows, and the mean of the values under it; (B, heads, Q, D)."""

    @staticmethod
    def forward(
        ctx: Any,
        folded: Tensor,
        keys: Tensor,
        values: Tensor,
        types: Tensor,
        windows: LocalWindows,
    ) -> Tensor:
        shares = folded.new_empty(*folded.shape[:3], windows.tokens.shape[-1])  # (B, heads, Q, W)
        seen = torch.empty_like(folded)
        for sample, key, value in _samples(keys, values):
            matrix = WindowMatrix(windows, sample)
            for row, share, mean in zip(folded[sample], shares[sample], seen[sample], strict=True):
                scores = matrix.products(row, key) + _of_type(row, types, windows)
                scores = scores.masked_fill_(~matrix.inside, HIDDEN)
                # Times `inside`: the softmax of an empty window would be uniform, not zero.
                share.copy_(scores.softmax(dim=-1) * matrix.inside)
                mean.copy_(matrix.gather(share, value))
                mean += _by_type(share, windows) @ types
        ctx.save_for_backward(folded, keys, values, types, shares)
        ctx.windows = windows
        return seen

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        folded, keys, values, types, shares = ctx.saved_tensors
        windows: LocalWindows = ctx.windows
        into_folded, into_types = torch.empty_like(folded), torch.zeros_like(types)
        into_keys, into_values = (
            torch.zeros_like(memory, dtype=torch.float32) for memory in (keys, values)
        )
        for sample, key, value in _samples(keys, values):
            matrix = WindowMatrix(windows, sample)
            for head, (row, share, into) in enumerate(
                zip(folded[sample], shares[sample], grad[sample], strict=True)
            ):
                gain = matrix.products(into, value) + _of_type(into, types, windows)
                # The gradient of a score: its share times its gain beyond the mean gain.
                gain -= (share * gain).sum(dim=-1, keepdim=True)
                score = share * gain
                of_kind = _by_type(score, windows)
                into_folded[sample, head] = matrix.gather(score, key) + of_kind @ types
                matrix.scatter(score, row, onto=into_keys[sample])
                matrix.scatter(share, into, onto=into_values[sample])
                into_types += of_kind.T @ row + _by_type(share, windows).T @ into
        return into_folded, into_keys.to(keys), into_values.to(values), into_types, None


def _samples(keys: Tensor, values: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield every sample with its keys and values (N, D), float32."""
    for sample, (key, value) in enumerate(zip(keys, values, strict=True)):
        yield sample, key.float(), value.float()


def _of_type(rows: Tensor, types: Tensor, windows: LocalWindows) -> Tensor:
    """Return (Q, W): each query's vector (Q, D) times the type of its tokens."""
    return (rows @ types.T)[:, windows.sensor]


def _by_type(entries: Tensor, windows: LocalWindows) -> Tensor:
    """Return (Q, 2): the sums over LiDAR and camera tokens of (Q, W) entries."""
    bev, camera = entries[:, : windows.bev_columns], entries[:, windows.bev_columns :]
    return torch.stack([bev.sum(dim=-1), camera.sum(dim=-1)], dim=-1)
