"""Matrices between sensors are right, and have the same bits on every processor."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pyquaternion import Quaternion

from shared.digests import array_digest
from stage1_extract.nuscenes.transforms import (
    Matrix,
    SensorPose,
    camera_from_lidar,
    inverse,
    inverse_quaternion,
    lidar_from_sensor,
    product,
    quaternion_product,
    rotation_matrix,
    turned,
    unit_quaternion,
    yaw_rad,
)
from tests.child_processes import REPOSITORY

ROUNDING = 1e-14  # of numbers of about 1
CAMERA = SensorPose(
    ego_from_sensor_rotation=[
        0.5037872666382278,
        -0.49740249788611096,
        -0.4941850223835201,
        0.5045,
    ],
    ego_from_sensor_m=[1.5752559464, 0.500519383135, 1.50696032589],
    global_from_ego_rotation=[-0.968669701688471, -0.004043399262151301, -0.0076, 0.248201],
    global_from_ego_m=[600.1202137947669, 1647.490776275174, 0.0],
)
LIDAR = SensorPose(
    ego_from_sensor_rotation=[0.706749235, -0.01530099378, 0.0173974519, -0.7070846],
    ego_from_sensor_m=[0.985793, 0.0, 1.84019],
    global_from_ego_rotation=[-0.96867, -0.00404, -0.007666, 0.2482012],
    global_from_ego_m=[599.849775495386, 1647.6411294309523, 0.0],
)

# Prints the digest of what the tables say, then that of the projections into the images.
SCRIPT = """
import sys
from pathlib import Path

import numpy as np

from shared.config.preset_catalogue import load_preset
from shared.digests import array_digest
from stage1_extract.extraction.extraction_identity import inputs_digest
from stage1_extract.nuscenes.nuscenes_tables import read_tables
from stage1_extract.preprocessing.images import ImageTransform, img_from_lidar

preset = load_preset("tiny")
records = read_tables(Path(sys.argv[1]), "v1.0-mini", "mini_train")
print(inputs_digest(records, preset))
transform = ImageTransform(resize=0.3, left_px=3, top_px=5, flip=True)
projections = [
    img_from_lidar(camera, transform, preset.camera)
    for record in records
    for camera in record.cameras
]
print(array_digest(np.stack(projections)))
"""


@pytest.fixture
def quaternions() -> list[Quaternion]:
    random = np.random.RandomState(0)
    return [Quaternion(random.normal(size=4)).normalised for _ in range(50)]


def test_quaternions_turn_as_those_of_pyquaternion(quaternions: list[Quaternion]) -> None:
    for first, second in zip(quaternions, reversed(quaternions), strict=True):
        own, after = unit_quaternion(first.q), unit_quaternion(second.q)
        np.testing.assert_allclose(rotation_matrix(own), first.rotation_matrix, atol=ROUNDING)
        np.testing.assert_allclose(inverse_quaternion(own), first.inverse.q, atol=ROUNDING)
        both = quaternion_product(own, after)
        np.testing.assert_allclose(both, (first * second).q, atol=ROUNDING)
        assert yaw_rad(both) == pytest.approx((first * second).yaw_pitch_roll[0], abs=1e-12)


def test_products_and_inverses_are_those_of_numpy() -> None:
    random = np.random.RandomState(1)
    many: Matrix = random.normal(size=(6, 4, 4))
    (left, right), vector = many[:2], random.normal(size=3)
    small = left[:3, :3]
    np.testing.assert_allclose(product(many, right), many @ right, atol=ROUNDING)
    np.testing.assert_allclose(turned(small, vector), small @ vector, atol=ROUNDING)
    np.testing.assert_allclose(inverse(small), np.linalg.inv(small), rtol=1e-12)


def test_a_sensor_is_where_the_chain_of_poses_puts_it() -> None:
    chain = (
        np.linalg.inv(LIDAR.global_from_ego @ LIDAR.ego_from_sensor)
        @ CAMERA.global_from_ego
        @ CAMERA.ego_from_sensor
    )
    rotation, translation_m = lidar_from_sensor(CAMERA, LIDAR)
    np.testing.assert_allclose(rotation, chain[:3, :3], atol=ROUNDING)
    np.testing.assert_allclose(translation_m, chain[:3, 3], atol=1e-12)  # of global kilometres
    np.testing.assert_allclose(
        camera_from_lidar(rotation, translation_m), np.linalg.inv(chain), atol=1e-12
    )


def test_these_poses_give_these_bits_for_ever() -> None:
    """A store made anywhere is continued anywhere: its identity digests them."""
    rotation, translation_m = lidar_from_sensor(CAMERA, LIDAR)
    matrices = [rotation, translation_m, camera_from_lidar(rotation, translation_m)]
    digests = [array_digest(matrix)[:12] for matrix in matrices]
    assert digests == ["8bb88f74fe75", "2a3a3399c5d9", "f901175fa13e"]


def test_another_processor_gives_the_same_identity_and_projections(synthetic_root: Path) -> None:
    """OpenBLAS and NumPy take the kernels of older processors where they are told to."""
    said = set()
    kinds = [
        {},
        {
            "OPENBLAS_CORETYPE": "Nehalem",
            "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512_SKX",
        },
        {"OPENBLAS_CORETYPE": "Haswell"},
    ]
    for kind in kinds:
        plain = {k: v for k, v in os.environ.items() if not k.startswith(("OPENBLAS_CO", "NPY_"))}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(synthetic_root)],
            cwd=REPOSITORY,
            env=plain | kind,
            capture_output=True,
            text=True,
            check=True,
        )
        said.add(done.stdout)
    assert len(said) == 1
