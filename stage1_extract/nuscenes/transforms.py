"""Rigid transforms between sensors: float64, in mmdet3d's order of operations.

The nuScenes tables and v1 info files hold the same quaternions; both readers compute from them
here, so both get the same bits.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyquaternion import Quaternion

from shared.errors import DatasetError

NORM_ERROR = 1e-3  # of a quaternion; float32 is off by 1e-7

Matrix = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class SensorPose:
    """Where a sensor was when it measured, as nuScenes stores it.

    Args:
        ego_from_sensor_rotation, global_from_ego_rotation: quaternion w, x, y, z.
        ego_from_sensor_m, global_from_ego_m: translation x, y, z, metres.
    """

    ego_from_sensor_rotation: Sequence[float]
    ego_from_sensor_m: Sequence[float]
    global_from_ego_rotation: Sequence[float]
    global_from_ego_m: Sequence[float]

    @property
    def ego_from_sensor(self) -> Matrix:
        """(4, 4) float64."""
        return rigid(rotation_matrix(self.ego_from_sensor_rotation), self.ego_from_sensor_m)

    @property
    def global_from_ego(self) -> Matrix:
        """(4, 4) float64."""
        return rigid(rotation_matrix(self.global_from_ego_rotation), self.global_from_ego_m)


def rotation_matrix(quaternion: Sequence[float]) -> Matrix:
    """Return the (3, 3) float64 rotation of a quaternion w, x, y, z."""
    return np.asarray(unit_quaternion(quaternion).rotation_matrix, dtype=np.float64)


def unit_quaternion(values: Sequence[float]) -> Quaternion:
    """Return a quaternion w, x, y, z.

    Raises:
        DatasetError: if its norm is not 1: pyquaternion would make a rotation of any numbers.
    """
    norm = math.hypot(*values)
    if len(values) != 4 or not abs(norm - 1) <= NORM_ERROR:
        raise DatasetError(
            f"the rotation {list(map(float, values))} is {len(values)} numbers of norm {norm:.4g}, "
            "expected a quaternion w, x, y, z of norm 1; create the file again"
        )
    return Quaternion(values)


def rigid(rotation: Matrix, translation_m: Sequence[float] | Matrix) -> Matrix:
    """Join a rotation (3, 3) and a translation (3,) to a (4, 4) float64 matrix."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = translation_m
    return matrix


def lidar_from_sensor(sensor: SensorPose, keyframe: SensorPose) -> tuple[Matrix, Matrix]:
    """Return where a sensor was, seen from the keyframe's LiDAR: sensor, ego, global, ego', LiDAR.

    Args:
        sensor: a camera or an earlier sweep.
        keyframe: the LiDAR keyframe.

    Returns:
        Rotation (3, 3) and translation (3,) in metres, float64: point @ rotation.T + translation.

    Source: mmdet3d 1.0.0rc5 and 1.4.0, tools/.../nuscenes_converter.py, `obtain_sensor2top`; same
    operations in the same order, because a different order changes the last bits.
    """
    ego_from_sensor = rotation_matrix(sensor.ego_from_sensor_rotation)
    global_from_ego = rotation_matrix(sensor.global_from_ego_rotation)
    ego_from_global_key = np.linalg.inv(rotation_matrix(keyframe.global_from_ego_rotation))
    lidar_from_ego_key = np.linalg.inv(rotation_matrix(keyframe.ego_from_sensor_rotation))
    back = ego_from_global_key.T @ lidar_from_ego_key.T
    rotation = (ego_from_sensor.T @ global_from_ego.T) @ back
    sensor_m = np.asarray(sensor.ego_from_sensor_m) @ global_from_ego.T
    translation_m = (sensor_m + np.asarray(sensor.global_from_ego_m)) @ back
    translation_m -= (
        np.asarray(keyframe.global_from_ego_m) @ back
        + np.asarray(keyframe.ego_from_sensor_m) @ lidar_from_ego_key.T
    )
    return rotation.T, translation_m


def camera_from_lidar(rotation: Matrix, translation_m: Matrix) -> Matrix:
    """Invert a camera's rotation (3, 3) and translation (3,) to a (4, 4) float64 matrix.

    Source: CMT, `CustomNuScenesDataset.get_data_info`; numpy's inverse, not the transpose.
    """
    inverse = np.linalg.inv(rotation)
    return rigid(inverse, -(translation_m @ inverse.T))
