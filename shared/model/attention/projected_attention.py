"""Multi-head attention with official parameter names, with a mask or with an AQR bias.

B samples, Q queries, N memory tokens, D width.

Source: CMT, attention.py; mmcv, transformer.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared.model.attention.biased_attention import biased_attention
from shared.model.attention.feed_forward import xavier_linear
from shared.model.attention.windows.attention_bias import AttentionBias
from shared.process.autocast import joins_products, product_dtype


@dataclass(frozen=True, kw_only=True, slots=True)
class ProjectedMemory:
    """What an attention needs of a memory that is projected for several attentions at once.

    Args:
        query_weight: (D, D), and `query_bias`, (D,), in the dtype of the product.
        keys, values: (B, N, D), projected.
    """

    query_weight: Tensor
    query_bias: Tensor
    keys: Tensor
    values: Tensor


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
        memory: ProjectedMemory | None = None,
        mask: Tensor | None = None,
        bias: AttentionBias | None = None,
        dropout: float = 0.0,
    ) -> Tensor:
        """Attend.

        Args:
            queries: (B, Q, D).
            keys: (B, N, D).
            values: (B, N, D).
            memory: of `project_memory`, instead of `keys` and `values`.
            mask: broadcastable to (B, heads, Q, N); bool, True where a query may look, or float,
                added to the scores.
            bias: added to the scores of some tokens, instead of a mask; weights are not dropped.
            dropout: probability of dropping an attention weight.

        Returns:
            (B, Q, D).
        """
        query, key, value = (
            self._split_heads(tokens) for tokens in self._project(queries, keys, values, memory)
        )  # (B, heads, Q or N, D / heads)
        if bias is not None:
            assert mask is None
            assert dropout == 0.0
            seen = biased_attention(query, key, value, bias)
        else:
            if mask is not None and mask.is_floating_point():
                mask = mask.to(query.dtype)
            seen = functional.scaled_dot_product_attention(
                query, key, value, attn_mask=mask, dropout_p=dropout
            )
        merged: Tensor = self.out_proj(seen.transpose(1, 2).flatten(-2))  # (B, Q, D)
        return merged

    def _project(
        self, queries: Tensor, keys: Tensor, values: Tensor, memory: ProjectedMemory | None
    ) -> tuple[Tensor, ...]:
        """Return queries, keys and values, (B, Q or N, D)."""
        if memory is not None:
            query = functional.linear(queries, memory.query_weight, memory.query_bias)
            return query, memory.keys, memory.values
        # Cast as a whole: autocast would cast each third by itself.
        weight, bias = (p.to(product_dtype(p)) for p in (self.in_proj_weight, self.in_proj_bias))
        if queries is keys and joins_products(queries):
            width = queries.shape[-1]
            sizes = [2 * width, width]
            weight_qk, weight_v = torch.split(weight, sizes)
            bias_qk, bias_v = torch.split(bias, sizes)
            query, key = functional.linear(queries, weight_qk, bias_qk).chunk(2, dim=-1)
            return query, key, functional.linear(values, weight_v, bias_v)
        return tuple(
            functional.linear(tokens, weight, bias)
            for tokens, weight, bias in zip(
                (queries, keys, values), weight.chunk(3), bias.chunk(3), strict=True
            )
        )

    def _split_heads(self, tokens: Tensor) -> Tensor:
        """Return (B, heads, N, D / heads) from (B, N, D)."""
        samples, count, _ = tokens.shape
        return tokens.view(samples, count, self.heads, -1).transpose(1, 2)


def project_memory(
    attentions: Sequence[ProjectedAttention], keys: Tensor, values: Tensor
) -> list[ProjectedMemory]:
    """Project a memory for several attentions, in one product for all keys and one for all values.

    Args:
        attentions: L of them, of the same width.
        keys: (B, N, D).
        values: (B, N, D).

    Returns:
        What each attention needs; each has keys and values of its own, contiguous.
    """
    dtype = product_dtype(keys)
    weights = torch.stack([attention.in_proj_weight for attention in attentions]).to(dtype)
    biases = torch.stack([attention.in_proj_bias for attention in attentions]).to(dtype)
    query_weights, *memory_weights = weights.chunk(3, dim=1)  # (L, D, D)
    query_biases, *memory_biases = biases.chunk(3, dim=1)  # (L, D)
    projected = []
    for tokens, weight, bias in zip((keys, values), memory_weights, memory_biases, strict=True):
        rows = tokens.to(dtype).flatten(0, 1).expand(len(attentions), -1, -1)  # (L, B * N, D)
        of_all = torch.baddbmm(bias.unsqueeze(1), rows, weight.transpose(1, 2))
        projected.append(of_all.view(len(attentions), *tokens.shape).unbind())
    return [
        ProjectedMemory(query_weight=weight, query_bias=bias, keys=key, values=value)
        for weight, bias, key, value in zip(
            query_weights.unbind(), query_biases.unbind(), *projected, strict=True
        )
    ]
