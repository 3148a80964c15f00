"""Multi-head attention with official parameter names, with a mask or with an AQR bias.

B samples, Q queries, N memory tokens, D width.

Source: CMT, attention.py; mmcv, transformer.py.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared.model.attention.biased_attention import biased_attention
from shared.model.attention.feed_forward import xavier_linear
from shared.model.attention.windows.attention_bias import AttentionBias


class ProjectedAttention(nn.Module):
    """Multi-head attention with the parameters of `nn.MultiheadAttention`.

    Args:
        width: D.
        heads: attention heads; must divide `width`.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = xavier_linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        *,
        mask: Tensor | None = None,
        bias: AttentionBias | None = None,
        dropout: float = 0.0,
    ) -> Tensor:
        """Attend.

        Args:
            queries: (B, Q, D).
            keys: (B, N, D).
            values: (B, N, D).
            mask: broadcastable to (B, heads, Q, N); bool, True where a query may look, or float,
                added to the scores.
            bias: added to the scores of some tokens, instead of a mask; weights are not dropped.
            dropout: probability of dropping an attention weight.

        Returns:
            (B, Q, D).
        """
        query, key, value = (
            self._split_heads(functional.linear(tokens, weight, bias))
            for tokens, weight, bias in zip(
                (queries, keys, values),
                self.in_proj_weight.chunk(3),
                self.in_proj_bias.chunk(3),
                strict=True,
            )
        )  # (B, heads, Q or N, D / heads)
        if bias is not None:
            assert mask is None
            assert dropout == 0.0
            seen = biased_attention(query, key, value, bias)
        else:
            seen = functional.scaled_dot_product_attention(
                query, key, value, attn_mask=mask, dropout_p=dropout
            )
        merged: Tensor = self.out_proj(seen.transpose(1, 2).flatten(-2))  # (B, Q, D)
        return merged

    def _split_heads(self, tokens: Tensor) -> Tensor:
        """Return (B, heads, N, D / heads) from (B, N, D)."""
        samples, count, _ = tokens.shape
        return tokens.view(samples, count, self.heads, -1).transpose(1, 2)
