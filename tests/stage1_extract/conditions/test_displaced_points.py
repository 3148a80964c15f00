"""LiDAR files are turned, shifted and shaken by the published amounts."""

import numpy as np
import pytest

from stage1_extract.conditions.draw import Draw
from stage1_extract.conditions.lidar.displaced_points import misalign, misalignment, shake
from tests.stage1_extract.conditions.frames import Scripted, cloud


@pytest.mark.parametrize(("angle_deg", "in_all_deg"), [(1, 1.73), (2, 3.44), (3, 5.15)])
def test_three_small_turns_make_one_of_known_angle(angle_deg: float, in_all_deg: float) -> None:
    rotation = misalignment(angle_deg)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)
    turned_deg = np.degrees(np.arccos((np.trace(rotation) - 1) / 2))
    assert turned_deg == pytest.approx(in_all_deg, abs=0.01)


def test_a_misaligned_file_is_turned_clockwise_and_moved_two_metres_to_the_right() -> None:
    """Quarter turns are easy by hand: about z, y goes to x; about y, x to z; about x, z to y."""
    points = cloud([0, 5, 0, 17, 3])
    moved = misalign(points, Scripted(0.1), 0.2, 90)
    # About z: (5, 0, 0). About y: (0, 0, 5). About x: (0, 5, 0). Then 2 m along x.
    np.testing.assert_allclose(moved, [[2, 5, 0, 17, 3]], atol=1e-6)
    assert moved.dtype == np.float32
    few_degrees = misalign(cloud([0, 50, 0, 17, 3]), Scripted(0.1), 0.2, 3)
    assert few_degrees[0, 0] > 2 + 2.5  # 50 m ahead, 3 degrees clockwise: 2.6 m to the right


def test_a_file_is_misaligned_with_its_probability_and_the_severities_nest() -> None:
    points = cloud([0, 50, 0, 17, 3])
    assert misalign(points, Scripted(0.3), 0.2, 1) is points
    assert misalign(points, Scripted(0.3), 0.4, 2)[0, 0] > 2
    draws = [Draw(0, "lidar-shift", f"file {i}", "LIDAR_TOP") for i in range(1000)]
    moved = sum(misalign(points, draw, 0.2, 1) is not points for draw in draws)
    assert 160 < moved < 240


def test_no_points_can_be_moved_too() -> None:
    assert misalign(cloud(), Scripted(0.0), 0.2, 1).shape == (0, 5)
    assert shake(cloud(), Draw(0, "a", "b", "c"), 0.1).shape == (0, 5)


@pytest.mark.parametrize("shake_m", [0.06, 0.1, 0.13])
def test_a_shaken_file_shifts_as_a_whole_and_each_point_jitters(shake_m: float) -> None:
    points = np.zeros((20_000, 5), np.float32)
    points[:, 3:] = (17, 3)
    shaken = [shake(points, Draw(0, "f", str(i), "l"), shake_m) for i in range(60)]
    shifts = np.array([moved[:, :3].mean(axis=0) for moved in shaken])
    jitter = np.concatenate(
        [moved[:, :3] - shift for moved, shift in zip(shaken, shifts, strict=True)]
    )
    np.testing.assert_allclose(jitter.std(axis=0), np.array([0.15, 0.2, 0.12]) * shake_m, rtol=0.01)
    assert 0.8 * shake_m < shifts.std() < 1.2 * shake_m
    assert abs(jitter).max() < 3.01 * shake_m
    assert (shaken[0][:, 3:] == (17, 3)).all()
    assert shaken[0].dtype == np.float32


def test_a_stronger_shake_is_the_same_shake_enlarged() -> None:
    points = np.zeros((5, 5), np.float32)
    weak, strong = (shake(points, Draw(0, "f", "file", "l"), size) for size in (0.06, 0.12))
    np.testing.assert_allclose(strong, 2 * weak, rtol=1e-5)
