"""The seven nuScenes tables that are known before recording, and how tables are written."""

import json
from pathlib import Path
from typing import Any

from shared.config.classes import LIDAR
from shared.synthetic_nuscenes.sensors.rig import LIDAR_EGO_POSE, RIG_CAMERAS
from shared.synthetic_nuscenes.sensors.timeline import log_name
from shared.synthetic_nuscenes.world.randomness import token
from shared.synthetic_nuscenes.world.rotation import Pose
from shared.synthetic_nuscenes.world.synthetic_config import VERSION, SyntheticConfig

Row = dict[str, Any]
Tables = dict[str, list[Row]]

LOCATION = "boston-seaport"
MAP_FILE = "maps/synthetic-ground.png"
VISIBILITY_LEVELS = ((0.4, "v0-40"), (0.6, "v40-60"), (0.8, "v60-80"), (1.0, "v80-100"))
ATTRIBUTES = (
    "vehicle.moving",
    "vehicle.stopped",
    "vehicle.parked",
    "cycle.with_rider",
    "cycle.without_rider",
    "pedestrian.sitting_lying_down",
    "pedestrian.standing",
    "pedestrian.moving",
)
CATEGORIES = (
    "human.pedestrian.adult",
    "human.pedestrian.child",
    "human.pedestrian.wheelchair",
    "human.pedestrian.stroller",
    "human.pedestrian.personal_mobility",
    "human.pedestrian.police_officer",
    "human.pedestrian.construction_worker",
    "animal",
    "vehicle.car",
    "vehicle.motorcycle",
    "vehicle.bicycle",
    "vehicle.bus.bendy",
    "vehicle.bus.rigid",
    "vehicle.truck",
    "vehicle.construction",
    "vehicle.emergency.ambulance",
    "vehicle.emergency.police",
    "vehicle.trailer",
    "movable_object.barrier",
    "movable_object.trafficcone",
    "movable_object.pushable_pullable",
    "movable_object.debris",
    "static_object.bicycle_rack",
)


def visibility_token(visible_share: float) -> str:
    """Return the token of the nuScenes visibility level of a share: "1" to "4"."""
    return str(1 + sum(visible_share > limit for limit, _ in VISIBILITY_LEVELS[:-1]))


def fixed_tables(config: SyntheticConfig) -> Tables:
    """Build the tables of the world and the rig: all tables but those of the recordings."""
    seed = config.seed
    channels = [(LIDAR, "lidar"), *((camera.channel, "camera") for camera in RIG_CAMERAS)]
    return {
        "category": [
            {"token": token(seed, "category", name), "name": name, "description": f"{name}."}
            for name in CATEGORIES
        ],
        "attribute": [
            {"token": token(seed, "attribute", name), "name": name, "description": f"{name}."}
            for name in ATTRIBUTES
        ],
        "visibility": [
            {"token": str(level), "level": name, "description": f"Visible share of pixels: {name}"}
            for level, (_, name) in enumerate(VISIBILITY_LEVELS, start=1)
        ],
        "sensor": [
            {"token": token(seed, "sensor", channel), "channel": channel, "modality": modality}
            for channel, modality in channels
        ],
        "calibrated_sensor": [
            row for scene in config.scene_names for row in _calibration(config, scene)
        ],
        "log": [
            {
                "token": token(seed, "log", scene),
                "logfile": log_name(config, scene),
                "vehicle": "n000",
                "date_captured": log_name(config, scene)[5:15],
                "location": LOCATION,
            }
            for scene in config.scene_names
        ],
        "map": [
            {
                "token": token(seed, "map"),
                "category": "semantic_prior",
                "filename": MAP_FILE,
                "log_tokens": [token(seed, "log", scene) for scene in config.scene_names],
            }
        ],
    }


def calibration_token(config: SyntheticConfig, scene: str, channel: str) -> str:
    """Return the token of a sensor's calibration in a scene; nuScenes has one set per log."""
    return token(config.seed, "calibrated_sensor", scene, channel)


def pose_columns(pose: Pose) -> Row:
    """Return a pose as columns of a nuScenes table."""
    return {"translation": list(pose.translation_m), "rotation": list(pose.rotation)}


def write_tables(out: Path, tables: Tables) -> None:
    """Write one JSON file per table under OUT/v1.0-mini."""
    for name, rows in tables.items():
        text = json.dumps(rows, indent=0, allow_nan=False)
        (out / VERSION / f"{name}.json").write_text(text + "\n", encoding="ascii")


def _calibration(config: SyntheticConfig, scene: str) -> list[Row]:
    sensors: list[tuple[str, Pose, list[list[float]]]] = [(LIDAR, LIDAR_EGO_POSE, [])]
    sensors += [(camera.channel, camera.ego_pose, camera.intrinsic) for camera in RIG_CAMERAS]
    return [
        {
            "token": calibration_token(config, scene, channel),
            "sensor_token": token(config.seed, "sensor", channel),
            **pose_columns(pose),
            "camera_intrinsic": intrinsic,
        }
        for channel, pose, intrinsic in sensors
    ]
