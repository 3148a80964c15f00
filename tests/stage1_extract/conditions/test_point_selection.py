"""Points are dropped at random in the published share, or by the angle from the car's front."""

import numpy as np
import pytest

from stage1_extract.conditions.draw import Draw
from stage1_extract.conditions.lidar.point_selection import drop_share, keep_azimuths
from tests.stage1_extract.conditions.frames import Scripted, cloud


def test_the_points_with_the_lowest_numbers_remain_in_their_order() -> None:
    points = cloud(*([i, 0, 0, 0, 0] for i in range(10)))
    numbers = [0.9, 0.1, 0.8, 0.2, 0.7, 0.3, 0.6, 0.4, 0.55, 0.5]
    remaining = {70: [1, 3, 5], 80: [1, 3], 90: [1]}
    for percent, expected in remaining.items():
        reduced = drop_share(points, Scripted(*numbers), percent)
        assert reduced[:, 0].tolist() == expected
        assert reduced.dtype == np.float32


@pytest.mark.parametrize(
    ("points", "percent", "left"), [(34_720, 70, 10_416), (5, 90, 0), (0, 90, 0)]
)
def test_the_share_that_remains_is_rounded(points: int, percent: int, left: int) -> None:
    """5 points: 0.5 of one remains, and halves are rounded to even, as Python does."""
    assert (
        len(drop_share(np.zeros((points, 5), np.float32), Draw(0, "a", "b", "c"), percent)) == left
    )


@pytest.mark.parametrize(
    ("x", "y", "angle_deg"),
    [(0, 1, 0), (1, 1, 45), (1, 0, 90), (-1, 0, -90), (1, -1, 135), (-1, -1, -135), (0, -1, 180)],
)
def test_angles_are_measured_from_the_front_to_the_right(
    x: float, y: float, angle_deg: float
) -> None:
    """The front of the car is +y in the LiDAR frame, its right is +x."""
    points = cloud([x, y, -40, 0, 0.25])
    for half_angle_deg in (60, 90):
        kept = keep_azimuths(points, half_angle_deg)
        assert len(kept) == (abs(angle_deg) <= half_angle_deg)


def test_the_limits_are_inside_and_height_does_not_matter() -> None:
    eastward = [np.tan(np.radians(angle)) for angle in (59.9, 60.1)]
    points = cloud(*([x, 1, z, 0, 0] for x in eastward for z in (-5, 5)))
    assert keep_azimuths(points, 60)[:, 2].tolist() == [-5, 5]
    assert len(keep_azimuths(points, 90)) == 4
    assert len(keep_azimuths(cloud([0, 0, 0, 0, 0]), 60)) == 1  # upstream fails on such a point
