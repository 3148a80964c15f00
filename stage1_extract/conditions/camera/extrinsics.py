"""Cameras whose calibration is wrong; images and features stay as they are."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stage1_extract.conditions.condition import Condition
from stage1_extract.conditions.draw import Draw
from stage1_extract.nuscenes.records import Camera, SampleRecord
from stage1_extract.nuscenes.transforms import inverse, product, rigid, turned

ALL_CAMERAS = "all cameras"  # the subject of a draw that they share
ANGLE_DEG = (0.5, 2.5)
SHIFT_M = (0.005, 0.01)

Matrix = NDArray[np.float64]


def disturb_each(record: SampleRecord, condition: Condition) -> SampleRecord:
    """Disturb every camera of a sample by a motion of its own."""
    return _disturbed(
        record, [rigid_noise(condition.draw(record.token, view.name)) for view in record.cameras]
    )


def disturb_together(record: SampleRecord, condition: Condition) -> SampleRecord:
    """Disturb all cameras of a sample by the same motion, as if their rack had moved."""
    noise = rigid_noise(condition.draw(record.token, ALL_CAMERAS))
    return _disturbed(record, [noise] * len(record.cameras))


def rigid_noise(draw: Draw) -> Matrix:
    """Return a small motion in the ego frame, (4, 4) float64, metres.

    A rotation by 0.5 to 2.5 degrees, either way, about an axis of any direction, then a shift by 5
    to 10 mm, either way, along each axis.

    Source: nuScenes-R, create_noise_data_nuscenes.py. Its limits read 1 to 5 degrees, but the angle
    is multiplied by pi / 360.
    """
    across, around, angle, sign = draw.uniform(4)
    height = 1 - 2 * across
    flat, turn = math.sqrt(1 - height**2), 2 * math.pi * around
    axis = np.array([flat * math.cos(turn), flat * math.sin(turn), height])
    angle_rad = np.radians(_between(ANGLE_DEG, angle)) * (-1 if sign < 0.5 else 1)
    sizes, signs = draw.uniform(2, 3)
    shift_m = _between(SHIFT_M, sizes) * np.where(signs < 0.5, -1, 1)
    return rigid(_rotation(axis, float(angle_rad)), shift_m)


def _disturbed(record: SampleRecord, noises: Sequence[Matrix]) -> SampleRecord:
    """Move cameras in the ego frame of the LiDAR keyframe.

    Upstream: in the ego frame of the camera's own time, up to 50 ms off, which a record does not
    have; since any axis is as likely, only the way by which the car's motion shifts the centre of
    the rotation differs, by millimetres.
    """
    ego_from_lidar = record.ego_from_lidar
    back = inverse(ego_from_lidar[:3, :3])
    lidar_from_ego = rigid(back, -turned(back, ego_from_lidar[:3, 3]))
    cameras = [
        _moved(view, product(product(lidar_from_ego, noise), ego_from_lidar))
        for view, noise in zip(record.cameras, noises, strict=True)
    ]
    return replace(record, cameras=tuple(cameras))


def _moved(camera: Camera, motion: Matrix) -> Camera:
    return replace(
        camera,
        rotation=product(motion[:3, :3], camera.rotation),
        translation_m=turned(motion[:3, :3], camera.translation_m) + motion[:3, 3],
    )


def _rotation(axis: Matrix, angle_rad: float) -> Matrix:
    """Return the (3, 3) rotation about a unit vector (Rodrigues)."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    sine, cosine = math.sin(angle_rad), math.cos(angle_rad)
    rotation: Matrix = np.eye(3) + sine * cross + (1 - cosine) * product(cross, cross)
    return rotation


def _between(limits: tuple[float, float], uniform: Matrix) -> Matrix:
    low, high = limits
    return low + (high - low) * uniform
