"""CMT's decoder: queries look at each other, then at all tokens of both sensors, layer by layer.

B samples, Q queries, N memory tokens, D width, L layers. The names of the parameters are those of
the official checkpoints.

Source: CMT, petr_transformer.py, attention.py and cmt_transformer.py; mmcv, transformer.py.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared.model.attention.feed_forward import FeedForward
from shared.model.attention.projected_attention import ProjectedAttention
from shared.model.attention.windows.attention_bias import AttentionBias


class SelfAttention(nn.Module):
    """Let the queries look at each other, with a residual."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.attn = ProjectedAttention(width, heads)

    def forward(self, content: Tensor, positions: Tensor, allowed: Tensor | None) -> Tensor:
        """Return (B, Q, D); `allowed` is (Q, Q) bool, True where row may look at column."""
        placed = content + positions
        dropout = self.dropout if self.training else 0.0
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
    ) -> Tensor:
        """Return (B, Q, D); `keys` are the `values` (B, N, D) plus their positions."""
        # Upstream: the dropout meant for the attention weights ends up as FlashMHA's `bias`, so
        # only the residual branch is dropped, never a weight.
        gathered = self.attn(content + positions, keys, values, bias=bias)
        return content + functional.dropout(gathered, self.dropout, self.training)


class DecoderLayer(nn.Module):
    """Self attention, cross attention and feed-forward, each followed by its norm."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.attentions = nn.ModuleList(
            [SelfAttention(width, heads, dropout), CrossAttention(width, heads, dropout)]
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
    ) -> Tensor:
        """Return (B, Q, D)."""
        look_at_each_other, look_at_memory = self.attentions
        content = self.norms[0](look_at_each_other(content, positions, allowed))
        content = self.norms[1](look_at_memory(content, positions, keys, values, bias))
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
            DecoderLayer(width, heads, hidden, dropout) for _ in range(layers)
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
        content = torch.zeros_like(positions)
        outputs = []
        for layer in self.layers:
            content = layer(content, positions, keys, values, allowed, bias)
            # Upstream: all layers share this norm, and the next layer reads what precedes it.
            outputs.append(self.post_norm(content))
        return torch.stack(outputs)  # (L, B, Q, D)
