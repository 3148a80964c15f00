"""Haze follows the depth of things, and covers the sky."""

from pathlib import Path

import numpy as np
import pytest

from stage1_extract.conditions.camera.depth_haze import AIRLIGHT, SKY_M, cell_depths, haze
from stage1_extract.preprocessing.sweeps import read_points
from tests.stage1_extract.conditions.frames import Scripted, cloud, real_records, record

CAMERA = record().cameras[0]  # looks along +y of the LiDAR, focal length 1000 px, centre (800, 450)


def wall(distance_m: float, *, top_deg: float) -> np.ndarray:
    """Return points on a wall across the road, from -20 degrees up to `top_deg`."""
    sides = np.linspace(-0.9, 0.9, 400) * distance_m
    heights = distance_m * np.tan(np.radians(np.arange(-20, top_deg + 0.1, 1.0)))
    x, z = (grid.reshape(-1) for grid in np.meshgrid(sides, heights))
    zeros = np.zeros_like(x)
    return np.column_stack([x, zeros + distance_m, z, zeros, zeros]).astype(np.float32)


def test_the_depth_of_a_cell_is_that_of_its_nearest_point_along_the_axis() -> None:
    points = cloud([0, 20, 0, 0, 0], [0, 10, 0, 0, 0], [1, 30, 0, 0, 0])
    depths = cell_depths(points, CAMERA, 900, 1600)
    assert depths.shape == (57, 100)
    assert depths[28, 50] == 10  # (800, 450) is in this cell
    assert depths[28, 52] == 30  # 1 m right at 30 m: 33 px
    assert cell_depths(points[:1], CAMERA, 900, 1600)[40, 3] == 20  # below, filled by the nearest


def test_points_behind_the_camera_do_not_count_and_without_points_all_is_sky() -> None:
    depths = cell_depths(cloud([0, -10, 0, 0, 0]), CAMERA, 900, 1600)
    assert (depths == SKY_M).all()
    assert (cell_depths(cloud(), CAMERA, 900, 1600) == SKY_M).all()


@pytest.mark.parametrize(("top_deg", "above_m"), [(5.0, SKY_M), (10.0, 25.0)])
def test_above_what_the_lidar_sees_is_sky_unless_its_highest_lasers_hit_a_wall(
    top_deg: float, above_m: float
) -> None:
    depths = cell_depths(wall(25, top_deg=top_deg), CAMERA, 900, 1600)
    assert depths[2, 50] == above_m
    assert depths[28, 50] == 25
    assert depths[40, 50] == 25


@pytest.mark.parametrize("attenuation", [0.02, 0.06])
def test_a_pixel_is_mixed_with_the_airlight_by_its_distance(attenuation: float) -> None:
    image = np.full((900, 1600, 3), 50, np.uint8)
    hazy = haze(image, wall(25, top_deg=10), CAMERA, Scripted(), attenuation)
    share = np.exp(-attenuation * 25)
    assert hazy[450, 800].tolist() == [round(50 * share + AIRLIGHT * (1 - share))] * 3
    sky = haze(image, wall(25, top_deg=5), CAMERA, Scripted(), attenuation)
    assert sky[20, 800].tolist() == [AIRLIGHT] * 3


@pytest.mark.real
def test_in_a_real_image_the_far_is_hidden_and_the_road_ahead_is_not(nuscenes_real: Path) -> None:
    frame = real_records(nuscenes_real)[2]
    points = read_points(frame.lidar_file)
    depths = cell_depths(points, frame.cameras[0], 900, 1600)
    assert depths[56].max() < 12  # the road before the car
    assert np.median(depths[:10]) > 25  # buildings and sky
    assert ((depths > 1) & (depths <= SKY_M)).all()
