"""One frame of a v1 info file (mmdet3d 0.x to 1.0, MIT BEVFusion, CMT): quaternions and arrays."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.config.classes import CAMERAS, LIDAR
from shared.data.features import Annotations
from shared.errors import DatasetError
from stage1_extract.nuscenes.annotations import NO_BOXES, BoxTable, class_name
from stage1_extract.nuscenes.info_paths import file_below
from stage1_extract.nuscenes.records import Camera, SampleRecord, Sweep, recording_of
from stage1_extract.nuscenes.transforms import SensorPose, lidar_from_sensor

# Stored matrices against those from the stored quaternions, in metres and in matrix entries. A
# different BLAS changes them by up to 5e-13. Files that went through float32 are off by up to 6e-5
# (global coordinates of a kilometre); a wrong sensor or convention is off by centimetres.
SAME_NUMBERS = 1e-9
SAME_POSE = 1e-4


def boxes_v1(info: Mapping[str, Any]) -> BoxTable:
    """Return the boxes as stored, in the file's own convention; none in a test file."""
    if "gt_boxes" not in info:
        return NO_BOXES
    names = tuple(class_name(name) for name in info["gt_names"])
    boxes = np.asarray(info["gt_boxes"], np.float64).reshape(len(names), 7)
    velocities_m_s = np.asarray(info["gt_velocity"], np.float64).reshape(len(names), 2)
    return BoxTable(
        boxes_lidar=np.concatenate([boxes, velocities_m_s], axis=1),
        names=names,
        lidar_points=np.asarray(info["num_lidar_pts"]).astype(np.int64).reshape(len(names)),
        radar_points=np.asarray(info["num_radar_pts"]).astype(np.int64).reshape(len(names)),
    )


def record_v1(info: Mapping[str, Any], root: Path, annotations: Annotations) -> SampleRecord:
    """Return the record of one v1 info.

    Raises:
        DatasetError: if stored matrices and quaternions disagree, or a path is not a nuScenes path.
        KeyError: if the info lacks a key (`info_files` says which file and frame).
    """
    keyframe = SensorPose(
        ego_from_sensor_rotation=info["lidar2ego_rotation"],
        ego_from_sensor_m=info["lidar2ego_translation"],
        global_from_ego_rotation=info["ego2global_rotation"],
        global_from_ego_m=info["ego2global_translation"],
    )
    lidar_file = file_below(root, info["lidar_path"], f"samples/{LIDAR}")
    return SampleRecord(
        root=root,
        token=str(info["token"]),
        scene=recording_of(lidar_file),
        timestamp_us=int(info["timestamp"]),
        lidar_file=lidar_file,
        sweeps=tuple(_sweep(sweep, root, keyframe) for sweep in info["sweeps"]),
        cameras=tuple(_camera(info["cams"][name], name, root, keyframe) for name in CAMERAS),
        ego_from_lidar=keyframe.ego_from_sensor,
        global_from_ego=keyframe.global_from_ego,
        annotations=annotations,
    )


def _sweep(sweep: Mapping[str, Any], root: Path, keyframe: SensorPose) -> Sweep:
    rotation, translation_m = _lidar_from_sensor(sweep, keyframe)
    return Sweep(
        file=file_below(root, sweep["data_path"], f"sweeps/{LIDAR}"),
        timestamp_us=int(sweep["timestamp"]),
        rotation=rotation,
        translation_m=translation_m,
    )


def _camera(camera: Mapping[str, Any], name: str, root: Path, keyframe: SensorPose) -> Camera:
    rotation, translation_m = _lidar_from_sensor(camera, keyframe)
    # MIT BEVFusion renamed the key.
    key = "camera_intrinsics" if "camera_intrinsics" in camera else "cam_intrinsic"
    return Camera(
        name=name,
        file=file_below(root, camera["data_path"], f"samples/{name}"),
        intrinsics=np.array(camera[key], np.float64).reshape(3, 3),
        rotation=rotation,
        translation_m=translation_m,
    )


def _lidar_from_sensor(
    sensor: Mapping[str, Any], keyframe: SensorPose
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute from the quaternions, the tables' own numbers, if the stored matrices agree.

    Official CMT uses the stored matrices. Where they differ by more than rounding, so do we.
    """
    stored_rotation = np.array(sensor["sensor2lidar_rotation"], np.float64).reshape(3, 3)
    stored_m = np.array(sensor["sensor2lidar_translation"], np.float64).reshape(3)
    if "sensor2ego_rotation" not in sensor:
        return stored_rotation, stored_m
    pose = SensorPose(
        ego_from_sensor_rotation=sensor["sensor2ego_rotation"],
        ego_from_sensor_m=sensor["sensor2ego_translation"],
        global_from_ego_rotation=sensor["ego2global_rotation"],
        global_from_ego_m=sensor["ego2global_translation"],
    )
    rotation, translation_m = lidar_from_sensor(pose, keyframe)
    gap = max(np.abs(rotation - stored_rotation).max(), np.abs(translation_m - stored_m).max())
    if not gap <= SAME_POSE:  # written so that NaN fails too
        raise DatasetError(
            f"{sensor['data_path']}: its sensor2lidar_* is {gap:.2g} away from what its "
            f"sensor2ego_* and ego2global_* give (allowed {SAME_POSE:g}, metres or matrix "
            "entries); the info file contradicts itself, so create it again"
        )
    return (rotation, translation_m) if gap <= SAME_NUMBERS else (stored_rotation, stored_m)
