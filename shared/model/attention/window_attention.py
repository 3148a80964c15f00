"""Attention of queries to the few tokens in their windows, with no score for any other token.

Its readable twin is `ProjectedAttention` with a mask over all tokens; the parameters are the same.

B samples, Q queries, N memory tokens, W tokens of the windows, D width.
"""

import torch
from torch import Tensor
from torch.nn import functional

from shared.config.aqr_config import Implementation
from shared.model.attention.projected_attention import ProjectedAttention
from shared.model.attention.window_mean import window_mean
from shared.model.attention.windows.local_windows import LocalWindows


class WindowAttention(ProjectedAttention):
    """Multi-head attention inside windows, with the parameters of `nn.MultiheadAttention`.

    Keys and values of the whole memory are never projected: the query goes through the transposed
    key projection instead, and a head's mean of raw values is projected afterwards.
    """

    def look(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        types: Tensor,
        windows: LocalWindows,
        implementation: Implementation = "auto",
    ) -> Tensor:
        """Attend.

        Args:
            queries: (B, Q, D).
            keys: (B, N, D), both sensors.
            values: (B, N, D).
            types: (2, D), added to keys and values of the LiDAR's and the cameras' tokens.
            windows: which tokens each query sees.
            implementation: see `AqrConfig.attention`.

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
            "bqhe,hed->bhqd", query, weight_k.view(self.heads, size, width)
        ).contiguous()  # (B, heads, Q, D)
        seen = window_mean(folded, keys, values, types, windows, implementation)
        merged = torch.einsum("bhqd,hed->bqhe", seen, weight_v.view(self.heads, size, width))
        result: Tensor = self.out_proj(merged.flatten(-2) + bias_v)  # (B, Q, D)
        return result
