"""Rigid transforms between sensors: float64, in mmdet3d's order of operations.

The nuScenes tables and v1 info files hold the same quaternions; both readers compute from them
here, so both get the same bits. So does every machine: a store's identity digests these matrices.
BLAS, LAPACK and pyquaternion, which uses them, add in an order of its own on every kind of
processor, NumPy's functions of angles differ in the last bit, and Python's `sum` of floats is
another since 3.12; here all is products and sums in a fixed order.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.errors import DatasetError

NORM_ERROR = 1e-3  # of a quaternion; float32 is off by 1e-7

Matrix = NDArray[np.float64]
Quaternion = tuple[float, float, float, float]  # w, x, y, z


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
    w, x, y, z = unit_quaternion(quaternion)
    ww, xx, yy, zz = w * w, x * x, y * y, z * z
    return np.array(
        [
            [ww + xx - yy - zz, 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), ww - xx + yy - zz, 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), ww - xx - yy + zz],
        ]
    )


def unit_quaternion(values: Sequence[float]) -> Quaternion:
    """Return a quaternion w, x, y, z of norm 1.

    Raises:
        DatasetError: if its norm is not 1: it would be made a rotation of any numbers.
    """
    numbers = [float(value) for value in values]
    w, x, y, z = numbers if len(numbers) == 4 else (math.nan,) * 4
    norm = math.sqrt(w * w + x * x + y * y + z * z)
    if not abs(norm - 1) <= NORM_ERROR:  # written so that NaN fails too
        raise DatasetError(
            f"the rotation {numbers} is {len(numbers)} numbers of norm {norm:.4g}, expected a "
            "quaternion w, x, y, z of norm 1; create the file again"
        )
    return w / norm, x / norm, y / norm, z / norm


def inverse_quaternion(quaternion: Quaternion) -> Quaternion:
    """Return the inverse of a quaternion of norm 1."""
    w, x, y, z = quaternion
    return w, -x, -y, -z


def quaternion_product(left: Quaternion, right: Quaternion) -> Quaternion:
    """Return the rotation `right`, then `left`."""
    (a, b, c, d), (w, x, y, z) = left, right
    return (
        a * w - b * x - c * y - d * z,
        a * x + b * w + c * z - d * y,
        a * y - b * z + c * w + d * x,
        a * z + b * y - c * x + d * w,
    )


def yaw_rad(quaternion: Quaternion) -> float:
    """Return the angle about z of a quaternion of norm 1, the first of z, y', x''.

    Source: pyquaternion, `yaw_pitch_roll`, whose angle belongs to the transposed rotation.
    """
    w, x, y, z = quaternion
    return math.atan2(2 * (w * z - x * y), 1 - 2 * (y * y + z * z))


def product(left: Matrix, right: Matrix) -> Matrix:
    """Return left @ right for (..., n, k) and (k, m) float64."""
    terms = left[..., None] * right  # (..., n, k, m)
    total: Matrix = terms[..., 0, :].copy()
    for k in range(1, len(right)):
        np.add(total, terms[..., k, :], out=total)
    return total


def turned(rotation: Matrix, vector: Sequence[float] | Matrix) -> Matrix:
    """Return rotation @ vector for (3, 3) and (3,) float64."""
    x, y, z = map(float, vector)
    return np.array([a * x + b * y + c * z for a, b, c in rotation.tolist()])


def inverse(matrix: Matrix) -> Matrix:
    """Return the inverse of (3, 3) float64."""
    (a, b, c), (d, e, f), (g, h, i) = matrix.tolist()
    adjugate = np.array(
        [
            [e * i - f * h, c * h - b * i, b * f - c * e],
            [f * g - d * i, a * i - c * g, c * d - a * f],
            [d * h - e * g, b * g - a * h, a * e - b * d],
        ]
    )
    first, second, third = adjugate[:, 0].tolist()
    result: Matrix = adjugate / (a * first + b * second + c * third)
    return result


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
    ego_from_global_key = inverse(rotation_matrix(keyframe.global_from_ego_rotation))
    lidar_from_ego_key = inverse(rotation_matrix(keyframe.ego_from_sensor_rotation))
    lidar_from_global_key = product(lidar_from_ego_key, ego_from_global_key)
    rotation = product(lidar_from_global_key, product(global_from_ego, ego_from_sensor))
    sensor_m = turned(global_from_ego, sensor.ego_from_sensor_m)
    sensor_m = sensor_m + np.asarray(sensor.global_from_ego_m)
    translation_m = turned(lidar_from_global_key, sensor_m)
    translation_m -= turned(lidar_from_global_key, keyframe.global_from_ego_m) + turned(
        lidar_from_ego_key, keyframe.ego_from_sensor_m
    )
    return rotation, translation_m


def camera_from_lidar(rotation: Matrix, translation_m: Matrix) -> Matrix:
    """Invert a camera's rotation (3, 3) and translation (3,) to a (4, 4) float64 matrix.

    Source: CMT, `CustomNuScenesDataset.get_data_info`; the inverse, not the transpose.
    """
    back = inverse(rotation)
    return rigid(back, -turned(back, translation_m))
