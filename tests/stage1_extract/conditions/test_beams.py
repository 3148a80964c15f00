"""Beams are kept by ring, or by elevation as MIT BEVFusion's table has them."""

from pathlib import Path

import numpy as np
import pytest

from stage1_extract.conditions.lidar.beams import (
    elevation_bands,
    evenly_spaced_rings,
    keep_elevations,
    keep_rings,
)
from stage1_extract.preprocessing.sweeps import read_points
from tests.stage1_extract.conditions.frames import cloud, real_records

# By hand from the table: 0.1862 rad less 0.023275 per beam, less 0.012, in degrees.
FOUR_BANDS_DEG = [(0.65, 1.98), (-2.02, -0.69), (-4.69, -3.35), (-7.36, -6.02)]
RINGS_OF_FOUR_BANDS = [18, 20, 22, 24]  # of an HDL-32E: -6.67, -4.00, -1.33 and 1.33 degrees


def all_rings() -> np.ndarray:
    return cloud(*([5.0, 0, 0, ring, ring] for ring in range(32)))


@pytest.mark.parametrize(
    ("beams", "rings"),
    [
        (16, [1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31]),
        (8, [1, 5, 9, 13, 17, 21, 25, 29]),
        (4, [1, 9, 17, 25]),
    ],
)
def test_evenly_spaced_rings_are_those_of_multicorrupt(beams: int, rings: list[int]) -> None:
    assert list(evenly_spaced_rings(beams)) == rings
    assert keep_rings(all_rings(), evenly_spaced_rings(beams))[:, 4].tolist() == rings


def test_points_of_other_rings_go_and_the_rest_keep_order_and_values() -> None:
    points = cloud([1, 2, 3, 40, 9], [4, 5, 6, 70, 8], [7, 8, 9, 10, 1], [0, 0, 0, 0, 0])
    assert keep_rings(points, (1, 9)).tolist() == [points[0].tolist(), points[2].tolist()]


def test_no_points_may_remain() -> None:
    reduced = keep_rings(cloud([1, 2, 3, 4, 0]), (1, 9))
    assert reduced.shape == (0, 5)
    assert reduced.dtype == np.float32


def test_four_bands_of_elevation_straddle_the_horizon() -> None:
    bands = np.degrees(elevation_bands(4))
    np.testing.assert_allclose(bands, FOUR_BANDS_DEG, atol=0.006)


def test_sixteen_bands_reach_from_the_top_to_the_last_edge_and_one_is_beam_9() -> None:
    bands = elevation_bands(16)
    assert len(bands) == 16
    np.testing.assert_allclose(bands[0], (0.150925, 0.1742))
    np.testing.assert_allclose(bands[-1], (-0.5473, -0.52405))
    assert elevation_bands(1) == [elevation_bands(4)[1]]


def test_points_are_kept_by_the_angle_above_the_horizon_whatever_their_ring() -> None:
    angles = np.radians([1.3, 2.5, -1.3, -30])
    points = cloud(*([10 * np.cos(a), 0, 10 * np.sin(a), i, 3] for i, a in enumerate(angles)))
    turned = points[:, [1, 0, 2, 3, 4]]  # the azimuth does not matter
    for layout in (points, turned):
        assert keep_elevations(layout, elevation_bands(4))[:, 3].tolist() == [0, 2]


@pytest.mark.real
def test_in_a_real_frame_the_four_bands_are_four_lasers_around_the_horizon(
    nuscenes_real: Path,
) -> None:
    points = read_points(real_records(nuscenes_real)[1].lidar_file)
    # Where a laser gets no echo, the file has a point near the sensor, at -3.8 degrees: in a band.
    far = points[np.linalg.norm(points[:, :3], axis=1) > 3]
    rings, counts = np.unique(keep_elevations(far, elevation_bands(4))[:, 4], return_counts=True)
    usual = rings[counts > 0.02 * counts.sum()]
    assert usual.tolist() == RINGS_OF_FOUR_BANDS


@pytest.mark.real
@pytest.mark.parametrize(("beams", "share"), [(16, 1 / 2), (8, 1 / 4), (4, 1 / 8)])
def test_every_ring_of_a_real_file_has_as_many_points(
    nuscenes_real: Path, beams: int, share: float
) -> None:
    points = read_points(real_records(nuscenes_real)[1].lidar_file)
    assert len(keep_rings(points, evenly_spaced_rings(beams))) == share * len(points)
