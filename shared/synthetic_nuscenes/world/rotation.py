"""Quaternions (w, x, y, z) and poses made of them: all the algebra the generator needs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Quaternion = tuple[float, float, float, float]
Array = NDArray[np.float64]


def about_axis(axis: str, angle_rad: float) -> Quaternion:
    """Rotate about "x", "y" or "z"."""
    half = float(np.sin(angle_rad / 2))
    x, y, z = (half if axis == name else 0.0 for name in "xyz")
    return (float(np.cos(angle_rad / 2)), x, y, z)


def multiply(first: Quaternion, *rest: Quaternion) -> Quaternion:
    """Compose rotations: the last is applied first, as with matrices."""
    product = first
    for w2, x2, y2, z2 in rest:
        w1, x1, y1, z1 = product
        product = (
            w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2,
            w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
            w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2,
            w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2,
        )
    return product


def matrix(quaternion: Quaternion) -> Array:
    """Return the (3, 3) rotation matrix of a unit quaternion."""
    w, x, y, z = quaternion
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Pose:
    """Where a child frame is in its parent frame; maps child coordinates to the parent's.

    Args:
        translation_m: the child's origin in the parent frame.
        rotation: unit quaternion, parent from child.
    """

    translation_m: tuple[float, float, float]
    rotation: Quaternion

    def after(self, child: "Pose") -> "Pose":
        """Chain two poses: grandparent-from-parent after parent-from-child."""
        moved = matrix(self.rotation) @ np.array(child.translation_m) + self.translation_m
        return Pose(
            translation_m=(float(moved[0]), float(moved[1]), float(moved[2])),
            rotation=multiply(self.rotation, child.rotation),
        )

    def into_child(self, points_m: Array) -> Array:
        """Express (N, 3) parent coordinates in the child frame."""
        moved: Array = (points_m - np.array(self.translation_m)) @ matrix(self.rotation)
        return moved
