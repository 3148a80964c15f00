"""The gradient of an AQR bias on a CPU, from the tokens inside the windows only.

B samples, Q queries, N memory tokens, W tokens of the windows, E width of a head.
"""

import torch
from torch import Tensor

from shared.model.attention.cpu.window_matrix import WindowMatrix
from shared.model.attention.windows.attention_bias import AttentionBias


def bias_gradient(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attended: Tensor,
    log_sum: Tensor,
    bias: AttentionBias,
) -> Tensor:
    """Return the gradient of (B, Q, 2) biases: that of all scores they were added to, summed.

    The gradient of a score is its share of the attention times the difference between what its
    value would have contributed and what the mean did; only scores inside the windows are needed.
    """
    windows, sigma_cells = bias.windows, bias.sigma_cells
    profile = None if sigma_cells is None else windows.gaussian(sigma_cells)  # (W,)
    of_bias = torch.zeros_like(bias.per_sensor)
    added, bev_columns = bias.in_windows().detach(), windows.bev_columns
    of_mean = (grad.float() * attended.float()).sum(dim=-1)  # (B, heads, Q)
    samples, heads, _, size = query.shape
    for sample in range(samples):
        matrix = WindowMatrix(windows, sample)
        for head in range(heads):
            rows, grads, keys, values = (
                tensor[sample, head].float() for tensor in (query, grad, key, value)
            )
            scores = matrix.products(rows * size**-0.5, keys) + added[sample]  # (Q, W)
            shares = (scores - log_sum[sample, head].unsqueeze(-1)).exp()
            gains = matrix.products(grads, values) - of_mean[sample, head].unsqueeze(-1)
            of_score = shares * gains * matrix.inside
            if profile is not None:
                of_score = of_score * profile
            of_bev, of_camera = of_score[:, :bev_columns], of_score[:, bev_columns:]
            of_bias[sample] += torch.stack([of_bev.sum(-1), of_camera.sum(-1)], dim=-1)
    return of_bias
