"""Right info files of either version, from records of the tables."""

from typing import Any

import numpy as np

from shared.config.classes import CLASS_NAMES
from stage1_extract.nuscenes.records import SampleRecord

Info = dict[str, Any]
LABELS = {name: label for label, name in enumerate(sorted(CLASS_NAMES))}


def v1_info(record: SampleRecord) -> Info:
    """Return a record as mmdet3d 1.0 lists it; the boxes in the convention of mmdet3d >= 1.0."""

    def seen_from_lidar(sensor: Any, timestamp_us: int) -> Info:
        return {
            "data_path": "./data/nuscenes/" + record.relative(sensor.file),
            "timestamp": timestamp_us,
            "sensor2lidar_rotation": sensor.rotation,
            "sensor2lidar_translation": sensor.translation_m,
        }

    boxes = record.annotations.boxes_lidar.astype(np.float64)
    labels = record.annotations.labels
    return {
        "token": record.token,
        "timestamp": record.timestamp_us,
        "lidar_path": "./data/nuscenes/" + record.relative(record.lidar_file),
        "sweeps": [seen_from_lidar(sweep, sweep.timestamp_us) for sweep in record.sweeps],
        "cams": {
            camera.name: seen_from_lidar(camera, record.timestamp_us)
            | {"cam_intrinsic": camera.intrinsics}
            for camera in record.cameras
        },
        "lidar2ego_rotation": [1.0, 0.0, 0.0, 0.0],
        "lidar2ego_translation": record.ego_from_lidar[:3, 3].tolist(),
        "ego2global_rotation": [1.0, 0.0, 0.0, 0.0],
        "ego2global_translation": record.global_from_ego[:3, 3].tolist(),
        "gt_boxes": boxes[:, :7],
        "gt_velocity": boxes[:, 7:],
        "gt_names": np.array([CLASS_NAMES[x] if x >= 0 else "animal" for x in labels], "U40"),
        "num_lidar_pts": record.annotations.lidar_points,
        "num_radar_pts": record.annotations.radar_points,
    }


def v2_info(record: SampleRecord) -> Info:
    """Return a record as mmdet3d 1.4 lists it."""

    def matrix(rotation: Any, translation_m: Any) -> list[list[float]]:
        rows = np.eye(4)
        rows[:3, :3], rows[:3, 3] = rotation, translation_m
        listed: list[list[float]] = rows.tolist()
        return listed

    def from_lidar(sensor: Any) -> list[list[float]]:
        return matrix(sensor.rotation.T, -sensor.rotation.T @ sensor.translation_m)

    truth = record.annotations
    return {
        "token": record.token,
        "timestamp": record.timestamp_us / 1e6,
        "ego2global": record.global_from_ego.tolist(),
        "lidar_points": {
            "lidar_path": record.lidar_file.name,
            "lidar2ego": record.ego_from_lidar.tolist(),
        },
        "lidar_sweeps": [
            {
                "timestamp": sweep.timestamp_us / 1e6,
                "lidar_points": {
                    "lidar_path": record.relative(sweep.file),
                    "lidar2sensor": from_lidar(sweep),
                },
            }
            for sweep in record.sweeps
        ],
        "images": {
            camera.name: {
                "img_path": camera.file.name,
                "cam2img": camera.intrinsics.tolist(),
                "lidar2cam": from_lidar(camera),
            }
            for camera in record.cameras
        },
        "instances": [
            {
                "bbox_3d": box[:7].tolist(),
                "velocity": box[7:].tolist(),
                "bbox_label_3d": LABELS[CLASS_NAMES[label]] if label >= 0 else -1,
                "num_lidar_pts": int(lidar_points),
                "num_radar_pts": int(radar_points),
            }
            for box, label, lidar_points, radar_points in zip(
                truth.boxes_lidar.astype(np.float64),
                truth.labels,
                truth.lidar_points,
                truth.radar_points,
                strict=True,
            )
        ],
    }


def document(records: list[SampleRecord], v2: bool) -> Info:
    """Return the content of a good info file."""
    if v2:
        frames = [v2_info(record) for record in records]
        return {"metainfo": {"categories": LABELS, "version": "v1.0-mini"}, "data_list": frames}
    frames = [v1_info(record) for record in records]
    return {"infos": frames, "metadata": {"version": "v1.0-mini"}}
