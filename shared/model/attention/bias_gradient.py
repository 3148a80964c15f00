"""The gradient of an AQR bias, from the tokens inside the windows alone.

B samples, Q queries, N memory tokens, W tokens of the windows, E width of a head.
"""

import torch
from torch import Tensor

from shared.model.attention.window_matrix import WindowMatrix
from shared.model.attention.windows import LocalWindows


def bias_gradient(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    per_sensor: Tensor,
    attended: Tensor,
    log_sum: Tensor,
    windows: LocalWindows,
) -> Tensor:
    """Return the gradient of (B, Q, 2) biases: that of all scores they were added to, summed.

    The gradient of a score is its share of the attention times how much better its value would
    have done than the mean did; only scores inside the windows are needed.
    """
    found = torch.zeros_like(per_sensor)
    added, bev_columns = windows.spread(per_sensor), windows.bev_columns
    better_than = (grad.float() * attended.float()).sum(dim=-1)  # (B, heads, Q)
    samples, heads, _, size = query.shape
    for sample in range(samples):
        matrix = WindowMatrix(windows, sample)
        for head in range(heads):
            rows, gains_of, near, worth = (
                one[sample, head].float() for one in (query, grad, key, value)
            )
            scores = matrix.products(rows * size**-0.5, near) + added[sample]  # (Q, W)
            shares = (scores - log_sum[sample, head].unsqueeze(-1)).exp()
            gains = matrix.products(gains_of, worth) - better_than[sample, head].unsqueeze(-1)
            of_score = shares * gains * matrix.inside
            of_bev, of_camera = of_score[:, :bev_columns], of_score[:, bev_columns:]
            found[sample] += torch.stack([of_bev.sum(-1), of_camera.sum(-1)], dim=-1)
    return found
