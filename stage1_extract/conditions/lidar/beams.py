"""Fewer beams: most of the 32 lasers of the LiDAR are dead, in keyframe and sweeps alike.

Two definitions, which do not keep the same points: rings spread over the whole field of view
(`keep_rings`), or bands of elevation around the horizon, where the objects are (`keep_elevations`).

P points.
"""

from collections.abc import Collection

import numpy as np

from stage1_extract.conditions.condition import Points

RINGS = 32
RING = 4  # column of a raw file; after merging it holds the time lag

# The table of MIT BEVFusion: upper edge of beam 0, lower edge of the last, equal steps between.
TOP_RAD, BOTTOM_RAD, STEP_RAD = 0.1862, -0.5353, 0.023275
OFFSET_RAD = 0.012  # by which the bands lie below the table
ELEVATION_BEAMS = {16: tuple(range(1, RINGS, 2)), 4: (7, 9, 11, 13), 1: (9,)}


def evenly_spaced_rings(beams: int) -> tuple[int, ...]:
    """Return rings 1, 1 + 32 / beams, and so on.

    Source: MultiCorrupt, converter/lidar.py: odd rings; 1, 5, ..., 29; 1, 9, 17, 25.
    """
    return tuple(range(1, RINGS, RINGS // beams))


def keep_rings(points: Points, rings: Collection[int]) -> Points:
    """Return the points of some rings.

    Args:
        points: (P, 5) float32 of a raw file, whose column 4 is the ring.
        rings: indices, 0 to 31; 0 is the lowest laser.
    """
    is_alive = np.zeros(RINGS, np.bool_)
    is_alive[list(rings)] = True
    remaining: Points = points[is_alive[points[:, RING].astype(np.intp)]]
    return remaining


def elevation_bands(beams: int) -> list[tuple[float, float]]:
    """Return the open intervals of elevation in radians that are kept, from the highest down.

    Source: MIT BEVFusion, mmdet3d/datasets/pipelines/loading_utils.py, `reduce_LiDAR_beams`; beams
    7, 9, 11 and 13 of 32, odd ones, or beam 9. There in float32, here in float64.
    """
    edges = [TOP_RAD - STEP_RAD * number for number in range(RINGS - 1)] + [BOTTOM_RAD]
    return [
        (edges[beam] - OFFSET_RAD, edges[beam - 1] - OFFSET_RAD) for beam in ELEVATION_BEAMS[beams]
    ]


def keep_elevations(points: Points, bands: Collection[tuple[float, float]]) -> Points:
    """Return the points within open intervals of elevation, as the sensor of the file sees them.

    Args:
        points: (P, 5) float32 of a raw file, in the frame of its own sensor.
        bands: (lowest, highest) in radians above the sensor's horizon.
    """
    x, y, z = points[:, :3].T.astype(np.float64)
    elevation_rad = np.arctan2(z, np.hypot(x, y))
    inside = np.zeros(len(points), np.bool_)
    for lowest, highest in bands:
        inside |= (elevation_rad > lowest) & (elevation_rad < highest)
    remaining: Points = points[inside]
    return remaining
