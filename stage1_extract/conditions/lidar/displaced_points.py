"""Points in the wrong place: a LiDAR whose mounting moved, or that shook while it measured.

Both are drawn per file, so keyframe and sweeps of a sample move by different amounts. P points.
"""

import math

import numpy as np
from numpy.typing import NDArray

from stage1_extract.conditions.condition import Points
from stage1_extract.conditions.draw import Draw
from stage1_extract.nuscenes.transforms import product

SHIFT_M = np.array([2.0, 0.0, 0.0])
JITTER_SHARE = np.array([0.15, 0.2, 0.12])  # of the shake, in x, y and z
FARTHEST_JITTER = 3.0  # shakes


def misalign(points: Points, draw: Draw, probability: float, angle_deg: float) -> Points:
    """Turn and shift all points of a file, or leave them alone.

    Turned by -angle about x, y and z (first z, then y, then x), then 2 m along x: a direction that
    is the same for every file.

    Args:
        points: (P, 5) float32, frame of the file's own sensor.
        draw: a number per file; the same for every severity.
        probability: that a file is misaligned.
        angle_deg: about each axis.

    Source: MultiCorrupt, converter/lidar.py, spatial misalignment.
    """
    if not draw.chance(probability):
        return points
    moved = product(points[:, :3].astype(np.float64), misalignment(angle_deg).T) + SHIFT_M
    return np.column_stack([moved.astype(np.float32), points[:, 3:]])


def misalignment(angle_deg: float) -> NDArray[np.float64]:
    """Return the (3, 3) rotation; 1.73, 3.44 and 5.15 degrees in all for 1, 2 and 3."""
    cosine, sine = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    about_x = np.array([[1, 0, 0], [0, cosine, sine], [0, -sine, cosine]])
    about_y = np.array([[cosine, 0, -sine], [0, 1, 0], [sine, 0, cosine]])
    about_z = np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])
    return product(product(about_x, about_y), about_z)


def shake(points: Points, draw: Draw, shake_m: float) -> Points:
    """Shift a file's points together and jitter each of them.

    Args:
        points: (P, 5) float32.
        draw: numbers of the file; the same for every severity, which scales them.
        shake_m: deviation of the common shift along each axis.

    Source: MultiCorrupt, converter/lidar.py, motion blur: the part of it that moves points. Jitter
    has 0.15, 0.20 and 0.12 of that deviation and is clipped at three times the whole.
    """
    shift_m = draw.normal(3) * shake_m
    limit_m = FARTHEST_JITTER * shake_m
    jitter_m = np.clip(draw.normal(len(points), 3) * JITTER_SHARE * shake_m, -limit_m, limit_m)
    moved = points[:, :3] + shift_m + jitter_m
    return np.column_stack([moved.astype(np.float32), points[:, 3:]])
