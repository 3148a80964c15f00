"""Attention with a bias over whole sensors: plain attention with wider heads, exact on any device.

A bias on all tokens of a sensor is one number per query and sensor, so it is a product like any
other: more columns hold the number in the query and 1 in the keys of that sensor. Torch's fused
kernels do the rest.

B samples, Q queries, N memory tokens, E width of a head.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from shared.model.attention.windows.attention_bias import AttentionBias

COLUMNS = 8  # more per head: fused kernels want a width that is a multiple of 8


def sensor_attention(query: Tensor, key: Tensor, value: Tensor, bias: AttentionBias) -> Tensor:
    """Attend; arguments as for `biased_attention.biased_attention`, for a bias over whole sensors.

    In float16 and bfloat16 a number is the sum of three rounded ones, since the first alone would
    be off by up to 2^-9 of itself; three hold all 24 bits of a float32 in bfloat16.
    """
    samples, heads, queries, width = query.shape
    tokens, bev_tokens = key.shape[2], bias.windows.cells.layout.bev_tokens
    scale = width**-0.5  # of the heads as they were
    terms = _terms(bias.per_sensor / scale, query.dtype)  # (B, Q, 6): 3 of each sensor
    of_query = pad(terms, (0, COLUMNS - terms.shape[-1])).unsqueeze(1)
    is_camera = torch.arange(tokens, device=key.device) >= bev_tokens
    of_sensor = torch.stack([~is_camera, is_camera], dim=-1).to(key.dtype)  # (N, 2)
    of_key = pad(of_sensor.repeat_interleave(3, dim=-1), (0, COLUMNS - terms.shape[-1]))
    attended = scaled_dot_product_attention(
        torch.cat([query, of_query.expand(samples, heads, queries, -1)], dim=-1),
        torch.cat([key, of_key.expand(samples, heads, tokens, -1)], dim=-1),
        pad(value, (0, COLUMNS)),  # the fused kernels want values as wide as keys
        scale=scale,
    )
    return attended[..., :width]


def _terms(numbers: Tensor, dtype: torch.dtype) -> Tensor:
    """Return (..., 2 x 3): each number as the sum of three of the dtype, largest first.

    The gradient goes through the first, which has that of the whole number.
    """
    first = numbers.to(dtype)
    rest = (numbers - first.float()).detach()
    second = rest.to(dtype)
    third = (rest - second.float()).to(dtype)
    return torch.stack([first, second, third], dim=-1).flatten(-2)
