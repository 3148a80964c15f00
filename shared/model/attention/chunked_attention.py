"""Attention with a bias on any device, in plain torch: the definition, some queries at a time.

For GPUs on which the kernels do not run. Scores and softmax are float32 whatever the inputs are,
so that gradients stay finite in bfloat16. Nothing of a chunk but its inputs is kept for the
backward pass, which computes the scores again.

B samples, Q queries, N memory tokens, E width of a head.
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from shared.model.attention.windows.attention_bias import AttentionBias

SCORES = 2**27  # of a chunk, all samples and heads together: 512 MiB, and twice that backward


def chunked_attention(query: Tensor, key: Tensor, value: Tensor, bias: AttentionBias) -> Tensor:
    """Attend; arguments as for `biased_attention.biased_attention`."""
    samples, heads, queries, _ = query.shape
    keys, values = key.float(), value.float()
    step = max(1, SCORES // (samples * heads * keys.shape[2]))
    chunks = [
        checkpoint(
            _attend,
            query[:, :, start : start + step].float(),
            keys,
            values,
            bias.per_sensor[:, start : start + step],
            bias.of_queries(slice(start, start + step)),
            use_reentrant=False,
            preserve_rng_state=False,
        )
        for start in range(0, queries, step)
    ]
    return torch.cat(chunks, dim=2).to(value)


def _attend(
    query: Tensor, key: Tensor, value: Tensor, per_sensor: Tensor, bias: AttentionBias
) -> Tensor:
    """Attend in float32, also under autocast."""
    with torch.autocast(query.device.type, enabled=False):
        added = replace(bias, per_sensor=per_sensor).dense().float().unsqueeze(1)
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5 + added
        attended: Tensor = scores.softmax(dim=-1) @ value
        return attended
