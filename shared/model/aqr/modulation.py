"""The older variant of AQR: weights rendered on the maps, where they scale the features.

B samples, Q queries, N memory tokens, W tokens of the windows, D width.

Source: the AQR fork of CMT, weight_renderer.py and feature_modulator.py, remade: a weight of 0
leaves a feature as it is, and overlapping queries give their mean instead of a clipped sum.
"""

import math

from torch import Tensor

from shared.model.attention.windows.local_windows import LocalWindows, QueryCells

REACH = 3.0  # of the Gaussian, in standard deviations


def splat_windows(cells: QueryCells, splat_cells: float) -> LocalWindows:
    """Return windows that hold what a query's Gaussian reaches on both maps."""
    side = 2 * math.ceil(REACH * splat_cells) + 1
    return LocalWindows(cells=cells, bev_side=side, camera_side=side)


def weight_map(weights: Tensor, windows: LocalWindows, splat_cells: float) -> Tensor:
    """Render the weights of queries on both maps.

    Args:
        weights: (B, Q, 2) in -1..1.
        windows: of `splat_windows`.
        splat_cells: standard deviation of the Gaussian, in cells.

    Returns:
        (B, N) in -1..1: near queries the mean of their weights, fading to 0 where there is none.
    """
    shares = windows.gaussian(splat_cells).to(weights) * windows.inside  # (B, Q, W)
    tokens = windows.tokens.flatten(1)
    empty = weights.new_zeros(len(weights), windows.cells.layout.tokens)
    weighted = empty.scatter_add(1, tokens, (shares * windows.spread(weights)).flatten(1))
    total = empty.scatter_add(1, tokens, shares.flatten(1))
    return weighted / total.clamp(min=1.0)


def modulate(
    keys: Tensor, values: Tensor, rendered: Tensor, residual: float
) -> tuple[Tensor, Tensor]:
    """Scale the memory by a map.

    Args:
        keys: (B, N, D) memory plus its positions, which stay as they are.
        values: (B, N, D) memory.
        rendered: (B, N) in -1..1.
        residual: share of a value that stays at a weight of -1.
    """
    change = values * ((1.0 - residual) * rendered).unsqueeze(-1).to(values)
    return keys + change, values + change
