"""Fog weakens echoes and echoes itself, as the published model and its tables have it."""

import numpy as np
import pytest

from stage1_extract.conditions.draw import Draw
from stage1_extract.conditions.lidar.fog_on_points import fog, soft_echoes
from tests.stage1_extract.conditions.frames import Scripted, cloud

# From the tables of LiDAR_fog_sim ("original", pulse 20 ns), which MultiCorrupt uses unchanged:
# attenuation, distance of the target, distance and integral of the strongest echo before it.
PUBLISHED = (
    (0.02, 1.0, 0.0, 0.0),
    (0.02, 2.0, 1.9009504752376187, 3.6126916111328353e-10),
    (0.02, 3.0, 2.901450725362681, 1.940075386249412e-09),
    (0.02, 4.5, 4.402201100550275, 4.269046154271025e-09),
    (0.02, 50.0, 4.702351175587793, 4.346567239173599e-09),
    (0.03, 4.5, 4.402201100550275, 4.136924491795427e-09),
    (0.03, 200.0, 4.702351175587793, 4.2057773377922674e-09),
    (0.06, 3.0, 2.901450725362681, 1.749112176222625e-09),
    (0.06, 200.0, 4.602301150575287, 3.815637193358727e-09),
)


@pytest.mark.parametrize(("alpha", "target_m", "echo_m", "integral"), PUBLISHED)
def test_the_strongest_echo_of_the_fog_is_that_of_the_published_tables(
    alpha: float, target_m: float, echo_m: float, integral: float
) -> None:
    places_m, integrals = soft_echoes(alpha)
    assert places_m[round(10 * target_m)] == pytest.approx(echo_m, abs=1e-12)
    assert integrals[round(10 * target_m)] == pytest.approx(integral, rel=1e-4)


def test_an_echo_is_weakened_by_the_way_there_and_back() -> None:
    """20 m at 0.02 / m: exp(-0.8) = 0.449 of 100; the fog's echo of 4 is too weak to matter."""
    foggy = fog(cloud([12, 16, 0, 100, 7]), Scripted(0.5), 0.02, 0.008)
    assert foggy.tolist() == [[12, 16, 0, 45, 7]]


def test_the_fog_outshines_what_is_far_and_its_echo_is_on_the_same_ray() -> None:
    """60 m at 0.06 / m: exp(-7.2) * 100 rounds to 0, the echo of the fog is stronger."""
    points = cloud([36, 48, 0, 100, 7])
    foggy = fog(points, Scripted(0.5), 0.06, 0.05)  # 0.5: no noise
    # 3.8156e-9 * 100 * 60^2 * 0.05 * pi / 1e-6, at 4.6023 m
    np.testing.assert_allclose(foggy, [[2.7614, 3.6818, 0, 215.77, 7]], rtol=1e-4)
    noisy = fog(points, Scripted(0.75), 0.06, 0.05)  # 60 / 65 of that distance
    np.testing.assert_allclose(noisy[0, :2], foggy[0, :2] * 60 / 65, rtol=1e-5)


def test_noise_may_put_near_echoes_behind_the_sensor_as_upstream() -> None:
    """An echo from 8 m with noise of -9 m: 8 / -1 times the distance of the fog's echo."""
    foggy = fog(cloud([8, 0, 0, 1, 7]), Scripted(0.05), 0.06, 0.5)
    assert foggy[0, 0] == pytest.approx(-8 * 4.6023, rel=1e-4)


def test_points_at_the_origin_and_noise_of_exactly_the_range_stay_finite() -> None:
    assert np.isfinite(fog(cloud([0, 0, 0, 0, 0]), Scripted(0.5), 0.06, 0.05)).all()
    assert np.isfinite(fog(cloud([10, 0, 0, 1, 0]), Scripted(0.0), 0.06, 0.5)).all()


def test_no_point_is_lost_and_order_and_rings_stay() -> None:
    generator = np.random.default_rng(0)
    points = cloud(
        *np.column_stack(
            [generator.uniform(-60, 60, (500, 3)), generator.integers(0, 256, 500), np.arange(500)]
        )
    )
    foggy = fog(points, Draw(0, "fog", "file", "LIDAR_TOP"), 0.03, 0.008)
    assert foggy.dtype == np.float32
    assert foggy[:, 4].tolist() == points[:, 4].tolist()
    assert fog(points[:0], Scripted(), 0.03, 0.008).shape == (0, 5)


def test_denser_fog_outshines_more() -> None:
    points = np.zeros((2000, 5), np.float32)
    points[:, 0] = np.linspace(2, 100, 2000)
    points[:, 3] = 30
    outshone = [
        (fog(points, Draw(0, "fog", "f", "l"), alpha, beta)[:, 0] != points[:, 0]).sum()
        for alpha, beta in ((0.02, 0.008), (0.03, 0.008), (0.06, 0.05))
    ]
    assert 0 < outshone[0] < outshone[1] < outshone[2]
