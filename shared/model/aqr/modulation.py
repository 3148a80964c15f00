"""The older variant of AQR: weights drawn on the maps, where they scale the features.

B samples, Q queries, N memory tokens, W tokens of the windows, D width.

Source: the AQR fork of CMT, weight_renderer.py and feature_modulator.py, remade: a weight of 0
leaves a feature as it is, and overlapping queries give their mean instead of a clipped sum.
"""

import math

import torch
from torch import Tensor

from shared.model.attention.windows import LocalWindows, QueryCells, local_windows

REACH = 3.0  # of the Gaussian, in standard deviations


def splat_windows(cells: QueryCells, splat_cells: float) -> LocalWindows:
    """Return windows that hold what a query's Gaussian reaches on both maps."""
    side = 2 * math.ceil(REACH * splat_cells) + 1
    return local_windows(cells, bev_side=side, camera_side=side)


def weight_map(weights: Tensor, windows: LocalWindows, splat_cells: float) -> Tensor:
    """Draw the weights of queries on both maps.

    Args:
        weights: (B, Q, 2) in -1..1.
        windows: of `splat_windows`.
        splat_cells: standard deviation of the Gaussian, in cells.

    Returns:
        (B, N) in -1..1: near queries the mean of their weights, fading to 0 where there is none.
    """
    brush = _gaussian(windows, splat_cells).to(weights) * windows.inside  # (B, Q, W)
    tokens = windows.tokens.flatten(1)
    empty = weights.new_zeros(len(weights), windows.cells.layout.tokens)
    paint = empty.scatter_add(1, tokens, (brush * windows.spread(weights)).flatten(1))
    coats = empty.scatter_add(1, tokens, brush.flatten(1))
    return paint / coats.clamp(min=1.0)


def modulate(keys: Tensor, values: Tensor, drawn: Tensor, residual: float) -> tuple[Tensor, Tensor]:
    """Scale the memory by a map.

    Args:
        keys: (B, N, D) memory plus its positions, which stay as they are.
        values: (B, N, D) memory.
        drawn: (B, N) in -1..1.
        residual: share of a value that stays at a weight of -1.
    """
    change = values * ((1.0 - residual) * drawn).unsqueeze(-1).to(values)
    return keys + change, values + change


def _gaussian(windows: LocalWindows, splat_cells: float) -> Tensor:
    """Return (W,): how strongly a query draws on each of its cells, 1 on its own."""
    cameras = (windows.tokens.shape[-1] - windows.bev_columns) // windows.camera_side**2
    parts = []
    for side, times in ((windows.bev_side, 1), (windows.camera_side, cameras)):
        steps = torch.arange(side, device=windows.tokens.device) - side // 2
        squared = steps.square().unsqueeze(0) + steps.square().unsqueeze(1)
        parts.append((-squared / (2 * splat_cells**2)).exp().flatten().repeat(times))
    return torch.cat(parts)
