"""CMT's decoder: queries look at each other, then at all tokens of both sensors, layer by layer.

B samples, Q queries, N memory tokens, D width, L layers. The names of the parameters are those of
the official checkpoints.

Source: CMT, petr_transformer.py, attention.py and cmt_transformer.py; mmcv, transformer.py.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared.model.attention.feed_forward import FeedForward
from shared.model.attention.projected_attention import (
    ProjectedAttention,
    ProjectedMemory,
    project_memory,
)
from shared.model.attention.windows.attention_bias import AttentionBias
from shared.process.autocast import joins_products, product_dtype, without_float16

# Of a batch, up to which memory is projected for all layers at once: it saves launches, which are
# the time of a small step; in a large one the gradients of all layers would need memory together.
JOINED_TOKENS = 2**17
MASK_ROW = 16  # rows of an added mask begin at multiples of that many numbers, else each call pads


class SelfAttention(nn.Module):
    """Let the queries look at each other, with a residual.

    Args:
        width: D.
        heads: attention heads.
        dropout: of attention weights and of the residual branch.
        is_first: whether the queries are still empty. The norm that follows then divides by almost
            nothing, so gradients are hundreds of times as large as elsewhere: this one stays in
            float32 where autocast means float16.
    """

    def __init__(self, width: int, heads: int, dropout: float, *, is_first: bool = False) -> None:
        super().__init__()
        self.dropout, self.is_first = dropout, is_first
        self.attn = ProjectedAttention(width, heads)

    def forward(self, content: Tensor, positions: Tensor, allowed: Tensor | None) -> Tensor:
        """Return (B, Q, D); `allowed` as for `Decoder`, or (Q, Q) floats to add to the scores."""
        placed = content + positions
        dropout = self.dropout if self.training else 0.0
        with without_float16(content.device) if self.is_first else nullcontext():
            gathered = self.attn(placed, placed, content, mask=allowed, dropout=dropout)
        return content + functional.dropout(gathered, self.dropout, self.training)


class CrossAttention(nn.Module):
    """Let the queries look at the memory of both sensors, with a residual."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.attn = ProjectedAttention(width, heads)

    def forward(
        self,
        content: Tensor,
        positions: Tensor,
        keys: Tensor,
        values: Tensor,
        bias: AttentionBias | None = None,
        memory: ProjectedMemory | None = None,
    ) -> Tensor:
        """Return (B, Q, D).

        `keys` are the `values` (B, N, D) plus their positions; `memory` replaces both.
        """
        # Upstream: the dropout meant for the attention weights ends up as FlashMHA's `bias`, so
        # only the residual branch is dropped, never a weight.
        gathered = self.attn(content + positions, keys, values, memory=memory, bias=bias)
        return content + functional.dropout(gathered, self.dropout, self.training)


class DecoderLayer(nn.Module):
    """Self attention, cross attention and feed-forward, each followed by its norm."""

    def __init__(
        self, width: int, heads: int, hidden: int, dropout: float, *, is_first: bool = False
    ) -> None:
        super().__init__()
        self.attentions = nn.ModuleList(
            [
                SelfAttention(width, heads, dropout, is_first=is_first),
                CrossAttention(width, heads, dropout),
            ]
        )
        self.ffns = nn.ModuleList([FeedForward(width, hidden)])
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))

    def forward(
        self,
        content: Tensor,
        positions: Tensor,
        keys: Tensor,
        values: Tensor,
        allowed: Tensor | None,
        bias: AttentionBias | None = None,
        memory: ProjectedMemory | None = None,
    ) -> Tensor:
        """Return (B, Q, D)."""
        look_at_each_other, look_at_memory = self.attentions
        content = self.norms[0](look_at_each_other(content, positions, allowed))
        content = self.norms[1](look_at_memory(content, positions, keys, values, bias, memory))
        refined: Tensor = self.norms[2](self.ffns[0](content))
        return refined


class Decoder(nn.Module):
    """The stack of layers; all their outputs go through the same norm.

    Args:
        layers: L.
        width: D.
        heads: attention heads.
        hidden: width inside the feed-forward network.
        dropout: of both attentions.
    """

    def __init__(self, *, layers: int, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            DecoderLayer(width, heads, hidden, dropout, is_first=index == 0)
            for index in range(layers)
        )
        self.post_norm = nn.LayerNorm(width)

    def forward(
        self,
        positions: Tensor,
        keys: Tensor,
        values: Tensor,
        allowed: Tensor | None,
        bias: AttentionBias | None = None,
    ) -> Tensor:
        """Decode queries that start empty.

        Args:
            positions: (B, Q, D) where each query looks.
            keys: (B, N, D) memory plus its positions.
            values: (B, N, D) memory.
            allowed: (Q, Q) bool, True where row may look at column; None allows everything.
            bias: on the attention of the queries to the memory, the same in every layer.

        Returns:
            (L, B, Q, D), every layer's output after the shared norm. The next layer reads the
            output before that norm.

        Upstream: NaN and infinity are replaced here. We let them through, so that a diverged
        training stops at the matching instead of continuing with zeros.
        """
        # Cast once: autocast would cast them in every layer.
        keys, values = (tokens.to(product_dtype(tokens)) for tokens in (keys, values))
        joins = joins_products(positions)
        if allowed is not None and joins:
            allowed = _added_mask(allowed, product_dtype(positions))
        content = torch.zeros_like(positions)
        outputs = []
        for layer, memory in zip(self.layers, self._memory(keys, values), strict=True):
            content = layer(content, positions, keys, values, allowed, bias, memory)
            # Upstream: all layers share this norm, and the next layer reads what precedes it.
            outputs.append(content if joins else self.post_norm(content))
        stacked = torch.stack(outputs)  # (L, B, Q, D)
        return self.post_norm(stacked) if joins else stacked

    def _memory(self, keys: Tensor, values: Tensor) -> Sequence[ProjectedMemory | None]:
        """Return the memory projected for every layer, None where the layer does so itself."""
        samples, tokens, _ = keys.shape
        if joins_products(keys) and samples * tokens <= JOINED_TOKENS:
            layers: list[Any] = list(self.layers)
            return project_memory([layer.attentions[1].attn for layer in layers], keys, values)
        return [None] * len(self.layers)


def _added_mask(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """Return what a mask adds to scores, once instead of in every layer; see `MASK_ROW`."""
    rows, columns = allowed.shape
    width = -(-columns // MASK_ROW) * MASK_ROW
    mask = torch.zeros((rows, width), dtype=dtype, device=allowed.device)[:, :columns]
    return mask.masked_fill_(~allowed, float("-inf"))
