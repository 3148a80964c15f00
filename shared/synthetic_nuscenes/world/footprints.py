"""Whether rectangles on the ground overlap at any moment."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Track:
    """A rectangle on the ground at T moments.

    Args:
        xy_m: (T, 2) centre.
        yaw_rad: (T,) heading of the length.
        half_m: (half length, half width).
    """

    xy_m: Array
    yaw_rad: Array
    half_m: tuple[float, float]

    @property
    def axes(self) -> Array:
        """(T, 2, 2): unit vectors along the length and the width."""
        cos, sin = np.cos(self.yaw_rad), np.sin(self.yaw_rad)
        return np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], -2)


def ever_overlap(first: Track, second: Track, *, margin_m: float) -> bool:
    """Return whether two tracks ever come closer than a margin (separating axis test).

    Args:
        first: T moments.
        second: the same T moments.
        margin_m: gap that must remain along some axis.
    """
    reach_m = np.hypot(*first.half_m) + np.hypot(*second.half_m) + margin_m
    offset_m = second.xy_m - first.xy_m  # (T, 2)
    close = (offset_m**2).sum(-1) < reach_m**2  # (T,)
    if not close.any():
        return False
    apart = np.zeros(int(close.sum()), dtype=bool)
    axes = (first.axes[close], second.axes[close])
    for directions in (axes[0][:, 0], axes[0][:, 1], axes[1][:, 0], axes[1][:, 1]):
        gap_m = np.abs((offset_m[close] * directions).sum(-1)) - margin_m
        for track_axes, half_m in zip(axes, (first.half_m, second.half_m), strict=True):
            shadow = np.abs((track_axes * directions[:, None]).sum(-1))  # (T, 2)
            gap_m = gap_m - shadow @ np.array(half_m)
        apart |= gap_m > 0
    return not apart.all()
