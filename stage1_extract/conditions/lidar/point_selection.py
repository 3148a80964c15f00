"""Points that are missing: at random, or outside a horizontal field of view.

P points.
"""

import numpy as np

from stage1_extract.conditions.condition import Points
from stage1_extract.conditions.draw import Draw


def drop_share(points: Points, draw: Draw, removed_percent: int) -> Points:
    """Remove a share of the points at random; the others stay in their order.

    Upstream: the remaining points are shuffled, too.

    Args:
        points: (P, 5) float32.
        draw: the same numbers for every share, so that a larger share removes more of the same.
        removed_percent: of the points; what remains is rounded to the nearest, halves to even.

    Source: MultiCorrupt, converter/lidar.py, points reducing.
    """
    remaining = round(len(points) * ((100 - removed_percent) / 100))
    # Not `permutation`, whose algorithm NumPy may change.
    chosen = np.argsort(draw.uniform(len(points)), kind="stable")[:remaining]
    reduced: Points = points[np.sort(chosen)]
    return reduced


def keep_azimuths(points: Points, half_angle_deg: float) -> Points:
    """Return the points at most `half_angle_deg` to the left or right of the car's front.

    Args:
        points: (P, 5) float32 in the keyframe's LiDAR frame: x right, y forward.
        half_angle_deg: both limits are inside.

    Source: nuScenes-R, limited field of view: the angle from +y towards +x, height ignored.
    """
    angle_deg = np.degrees(np.arctan2(points[:, 0].astype(np.float64), points[:, 1]))
    visible: Points = points[np.abs(angle_deg) <= half_angle_deg]
    return visible
