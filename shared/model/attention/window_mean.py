"""The mean of the tokens in each query's windows, under a softmax of their scores.

What the weight generator's attention needs of the memory. Three ways compute the same: Triton
kernels on CUDA, sparse matrices on a CPU, and gathered tokens in plain torch anywhere else.

B samples, Q queries, N memory tokens, W tokens of the windows, D width.
"""

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from shared.config.aqr_config import Implementation
from shared.model.attention.cpu.sparse_window_mean import sparse_window_mean
from shared.model.attention.kernels.kernel_choice import takes_kernels
from shared.model.attention.windows.local_windows import LocalWindows

GATHERED = 2**26  # floats of gathered keys at a time: 256 MiB, and as much again for values


def window_mean(
    folded: Tensor,
    keys: Tensor,
    values: Tensor,
    types: Tensor,
    windows: LocalWindows,
    implementation: Implementation = "auto",
) -> Tensor:
    """Average the tokens that each query sees.

    Args:
        folded: (B, heads, Q, D) float32, the product with a token's key is its score.
        keys: (B, N, D), the same for all heads.
        values: (B, N, D).
        types: (2, D) float32, added to keys and values of the LiDAR's and the cameras' tokens.
        windows: which tokens each query sees.
        implementation: see `AqrConfig.attention`; "dense" has no form of its own here.

    Returns:
        (B, heads, Q, D) float32; 0 where a query's windows are empty, with no gradient.

    Raises:
        ConfigError: if the kernels were asked for by name and do not run here.
    """
    if takes_kernels(implementation, folded):
        from shared.model.attention.kernels.kernel_window_mean import kernel_window_mean

        return kernel_window_mean(folded, keys, values, types, windows)
    if folded.device.type == "cpu":
        return sparse_window_mean(folded, keys, values, types, windows)
    return gathered_window_mean(folded, keys, values, types, windows)


def gathered_window_mean(
    folded: Tensor, keys: Tensor, values: Tensor, types: Tensor, windows: LocalWindows
) -> Tensor:
    """Copy out the tokens that some queries see at a time; arguments as above."""
    samples, _, queries, width = folded.shape
    step = max(1, GATHERED // (samples * windows.tokens.shape[-1] * width))
    means = [
        checkpoint(
            _gathered_mean,
            folded[:, :, start : start + step],
            keys,
            values,
            types,
            windows,
            slice(start, start + step),
            use_reentrant=False,
            preserve_rng_state=False,
        )
        for start in range(0, queries, step)
    ]
    return torch.cat(means, dim=2)


def _gathered_mean(
    folded: Tensor,
    keys: Tensor,
    values: Tensor,
    types: Tensor,
    windows: LocalWindows,
    queries: slice,
) -> Tensor:
    """Return (B, heads, C, D) of the C queries of a slice."""
    tokens, inside = windows.tokens[:, queries], windows.inside[:, queries]  # (B, C, W)
    sample = torch.arange(len(keys), device=keys.device).view(-1, 1, 1)
    of_type = types[windows.sensor]  # (W, D)
    seen_keys = keys[sample, tokens].float() + of_type  # (B, C, W, D)
    seen_values = values[sample, tokens].float() + of_type
    scores = torch.einsum("bhcd,bcwd->bhcw", folded, seen_keys)
    scores = scores.masked_fill(~inside.unsqueeze(1), torch.finfo(torch.float32).min)
    # Times `inside`: the softmax of an empty window would be uniform, not zero.
    shares = scores.softmax(dim=-1) * inside.unsqueeze(1)
    return torch.einsum("bhcw,bcwd->bhcd", shares, seen_values)
