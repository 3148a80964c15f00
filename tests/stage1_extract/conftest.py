"""A nuScenes of two keyframes and a sweep, made up so that every number can be checked by hand.

The car drives along global +y at 4 m/s: heading 90 degrees, ego at (10, 4), (10, 5), (10, 6) m
at 0, 0.25 and 0.5 s. All sensors are at (1, 0, 2) m of the ego; the LiDAR faces as the ego does.
"""

import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from shared.config.classes import CAMERAS, LIDAR

START_US = 1_500_000_000_000_000
RECORDING = "n000-2017-07-14-02-40-00+0000"
NINETY_DEGREES = [math.sqrt(0.5), 0.0, 0.0, math.sqrt(0.5)]
AHEAD = [1.0, 0.0, 0.0, 0.0]
CAMERA_AXES = [0.5, -0.5, 0.5, -0.5]  # x right, y down, z ahead
MOUNT_M = [1.0, 0.0, 2.0]
INTRINSICS = [[1000.0, 0.0, 800.0], [0.0, 1000.0, 450.0], [0.0, 0.0, 1.0]]
# Category; width, length, height; global centre in each keyframe, heading as the ego's.
OBJECTS = (
    ("vehicle.car", [2.0, 4.0, 1.5], [[10.0, 21.0, 1.0], [10.0, 26.0, 1.0]]),
    ("vehicle.car", [1.75, 4.5, 1.5], [[13.0, 21.0, 1.0], [13.0, 21.0, 1.0]]),
    ("vehicle.truck", [2.5, 8.0, 3.0], [[10.0, -24.0, 1.0], [10.0, -24.0, 1.0]]),
    ("human.pedestrian.adult", [0.5, 0.75, 1.75], [[0.0, 6.0, 1.0]]),
    ("animal", [0.25, 0.75, 0.5], [[8.0, 6.0, 0.0]]),
)
POINTS = np.array([[2, 0, 0, 7, 31], [3, 1, -1, 255, 0]], np.float32)


def file_name(channel: str, quarter: int) -> str:
    """Return a file name below the root, for a time in quarters of a second."""
    folder = "sweeps" if quarter == 1 else "samples"
    end = "pcd.bin" if channel == LIDAR else "jpg"
    return f"{folder}/{channel}/{RECORDING}__{channel}__{START_US + 250_000 * quarter}.{end}"


def sample_data(channel: str, quarter: int) -> dict[str, Any]:
    key = quarter in (0, 2)
    chained = channel == LIDAR
    return {
        "token": f"{channel}-{quarter}",
        "sample_token": f"sample-{0 if quarter == 0 else 1}",
        "ego_pose_token": f"ego-{quarter}",
        "calibrated_sensor_token": f"calibrated-{channel}",
        "timestamp": START_US + 250_000 * quarter,
        "fileformat": "pcd" if chained else "jpg",
        "is_key_frame": key,
        "height": 0 if chained else 900,
        "width": 0 if chained else 1600,
        "filename": file_name(channel, quarter),
        "prev": f"{LIDAR}-{quarter - 1}" if chained and quarter > 0 else "",
        "next": f"{LIDAR}-{quarter + 1}" if chained and quarter < 2 else "",
    }


def annotations() -> list[dict[str, Any]]:
    rows = []
    for i, (_, size, centres) in enumerate(OBJECTS):
        for sample, centre in enumerate(centres):
            rows.append(
                {
                    "token": f"box-{i}-{sample}",
                    "sample_token": f"sample-{sample}",
                    "instance_token": f"instance-{i}",
                    "visibility_token": "",
                    "attribute_tokens": [],
                    "translation": centre,
                    "size": size,
                    "rotation": NINETY_DEGREES,
                    "prev": f"box-{i}-0" if sample == 1 else "",
                    "next": f"box-{i}-1" if sample + 1 < len(centres) else "",
                    "num_lidar_pts": 3 + i,
                    "num_radar_pts": i,
                }
            )
    return rows


def tables() -> dict[str, list[dict[str, Any]]]:
    """Return the 13 tables of nuScenes."""
    return {
        "category": [
            {"token": name, "name": name} for name in {category for category, *_ in OBJECTS}
        ],
        "attribute": [],
        "visibility": [],
        "instance": [
            {
                "token": f"instance-{i}",
                "category_token": category,
                "nbr_annotations": len(centres),
                "first_annotation_token": f"box-{i}-0",
                "last_annotation_token": f"box-{i}-{len(centres) - 1}",
            }
            for i, (category, _, centres) in enumerate(OBJECTS)
        ],
        "sensor": [
            {
                "token": name,
                "channel": name,
                "modality": "lidar" if name == LIDAR else "camera",
            }
            for name in (LIDAR, *CAMERAS)
        ],
        "calibrated_sensor": [
            {
                "token": f"calibrated-{name}",
                "sensor_token": name,
                "translation": MOUNT_M,
                "rotation": AHEAD if name == LIDAR else CAMERA_AXES,
                "camera_intrinsic": [] if name == LIDAR else INTRINSICS,
            }
            for name in (LIDAR, *CAMERAS)
        ],
        "ego_pose": [
            {
                "token": f"ego-{quarter}",
                "timestamp": START_US + 250_000 * quarter,
                "translation": [10.0, 4.0 + quarter, 0.0],
                "rotation": NINETY_DEGREES,
            }
            for quarter in range(3)
        ],
        "log": [{"token": "log", "logfile": RECORDING, "location": "nowhere"}],
        "scene": [
            {
                "token": "scene",
                "name": "scene-0103",
                "log_token": "log",
                "nbr_samples": 2,
                "first_sample_token": "sample-0",
                "last_sample_token": "sample-1",
            }
        ],
        "sample": [
            {
                "token": f"sample-{i}",
                "scene_token": "scene",
                "timestamp": START_US + 500_000 * i,
                "prev": "sample-0" if i else "",
                "next": "" if i else "sample-1",
            }
            for i in range(2)
        ],
        "sample_data": [
            *(sample_data(LIDAR, quarter) for quarter in range(3)),
            *(sample_data(name, quarter) for name in CAMERAS for quarter in (0, 2)),
        ],
        "sample_annotation": annotations(),
        "map": [{"token": "map", "log_tokens": ["log"], "filename": "maps/blank.png"}],
    }


@pytest.fixture
def made_up_nuscenes(tmp_path: Path) -> Path:
    """The root of the made-up tree: tables and sensor files."""
    root = tmp_path / "nuscenes"
    for name, rows in tables().items():
        file = root / "v1.0-mini" / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(rows))
    (root / "maps").mkdir()
    (root / "maps/blank.png").touch()
    ramp = np.broadcast_to(
        np.linspace(0, 255, 1600).astype(np.uint8)[None, :, None], (900, 1600, 3)
    )
    jpeg = cv2.imencode(".jpg", ramp)[1].tobytes()
    for row in tables()["sample_data"]:
        file = root / row["filename"]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(POINTS.tobytes() if row["fileformat"] == "pcd" else jpeg)
    return root
