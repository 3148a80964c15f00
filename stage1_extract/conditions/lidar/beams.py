"""Fewer beams: most of the 32 lasers of the LiDAR are dead, in keyframe and sweeps alike."""

from collections.abc import Collection

import numpy as np

from stage1_extract.conditions.condition import Points

RINGS = 32
RING = 4  # column of a raw file; after merging it holds the time lag


def keep_rings(points: Points, rings: Collection[int]) -> Points:
    """Return the points of some rings.

    Args:
        points: (P, 5) float32 of a raw file.
        rings: indices, 0 to 31.
    """
    remaining: Points = points[np.isin(points[:, RING], np.array(sorted(rings), np.float32))]
    return remaining


def evenly_spaced_rings(beams: int) -> tuple[int, ...]:
    """Return rings 1, 1 + step, ...: `beams` of 32.

    Source: MultiCorrupt, converter/lidar.py: odd rings; 1, 5, ..., 29; 1, 9, 17, 25.
    """
    return tuple(range(1, RINGS, RINGS // beams))
