"""Attention with an AQR bias on its scores: the readable reference, and the choice of a fast way.

| | where | how |
|---|---|---|
| `dense_attention` | anywhere | the definition, with every score in memory |
| `sensor_attention` | anywhere, bias over whole sensors | plain attention with wider heads |
| `window_bias_attention` | CUDA with Triton | kernels that add the bias tile by tile |
| `masked_attention` | CPU | torch's flash kernel with a mask, some queries at a time |
| `chunked_attention` | anywhere | the definition, some queries at a time |

All mean the same, forward and backward.

B samples, Q queries, N memory tokens, E width of a head.
"""

from torch import Tensor

from shared.model.attention.chunked_attention import chunked_attention
from shared.model.attention.cpu.masked_attention import masked_attention
from shared.model.attention.kernels.kernel_choice import takes_kernels
from shared.model.attention.sensor_attention import sensor_attention
from shared.model.attention.windows.attention_bias import AttentionBias


def biased_attention(query: Tensor, key: Tensor, value: Tensor, bias: AttentionBias) -> Tensor:
    """Attend with a bias on the scores.

    Args:
        query: (B, heads, Q, E).
        key: (B, heads, N, E).
        value: (B, heads, N, E).
        bias: on the scores, the same for all heads.

    Returns:
        (B, heads, Q, E).

    Raises:
        ConfigError: if the kernels were asked for by name and do not run here.
    """
    if bias.implementation == "dense":
        return dense_attention(query, key, value, bias)
    if bias.reach == "sensor":
        return sensor_attention(query, key, value, bias)
    if takes_kernels(bias.implementation, query):
        # Triton need not be installed where its kernels are not taken.
        from shared.model.attention.kernels.window_bias_attention import window_bias_attention

        return window_bias_attention(query, key, value, bias)
    if query.device.type == "cpu":
        return masked_attention(query, key, value, bias)
    return chunked_attention(query, key, value, bias)


def dense_attention(query: Tensor, key: Tensor, value: Tensor, bias: AttentionBias) -> Tensor:
    """Attend as the definition says, with every score in memory; arguments as above."""
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5 + bias.dense().unsqueeze(1)
    attended: Tensor = scores.softmax(dim=-1).to(value) @ value
    return attended
