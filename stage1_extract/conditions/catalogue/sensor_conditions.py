"""Conditions of whole sensors: absent, or stuck at an earlier sample. No backbone runs."""

from shared.config.classes import CAMERAS
from stage1_extract.conditions.absent_sensors import losing_cameras, losing_images, losing_lidar
from stage1_extract.conditions.condition import Condition
from stage1_extract.conditions.stuck_sensors import stuck_cameras, stuck_lidar

MULTICORRUPT = "MultiCorrupt (Beemelmanns et al. 2024), converter/img_converter.py"
NUSCENES_R = "nuScenes-R (Yu et al. 2023)"
STUCK_SOURCE = (
    f"{NUSCENES_R}, discrete stuck frames; with a probability instead of an exact share of samples"
)


def lidar_drop() -> Condition:
    """Take the LiDAR away."""
    return Condition(
        name="lidar-drop",
        family="lidar-drop",
        source="CMT and MoME, ModalMask3D: points times 0",
        edits=losing_lidar,
    )


def cameras_drop() -> Condition:
    """Take all six cameras away."""
    return Condition(
        name="cameras-drop",
        family="cameras-drop",
        source="CMT and MoME, ModalMask3D: images times 0; MetaBEV's '6 drops'",
        parameters={"cameras": list(CAMERAS)},
        edits=losing_cameras,
    )


def camera_missing(camera: str) -> Condition:
    """Take a camera away from every sample."""
    return Condition(
        name=missing_name(camera),
        family="missing",
        source=f"{NUSCENES_R}, toolkit, missing of camera inputs",
        parameters={"cameras": [camera]},
        edits=losing_cameras,
    )


def missing_name(camera: str) -> str:
    """Return "missing-cam-front" for "CAM_FRONT"."""
    return f"missing-{camera.lower().replace('_', '-')}"


def cameras_lost(percent: int) -> Condition:
    """Take each image away with probability 0.2, 0.4 or 0.6."""
    return Condition(
        name=f"cameras-{percent}",
        family="cameras",
        severity={20: 1, 40: 2, 60: 3}[percent],
        source=f"{MULTICORRUPT}, missing camera",
        parameters={"probability": percent / 100},
        edits=losing_images,
    )


def lidar_stuck(percent: int) -> Condition:
    """Stick the LiDAR at the sample before, in 10, 20, ..., 90 % of the samples."""
    return Condition(
        name=f"lidar-stuck-{percent}",
        family="lidar-stuck",
        severity=percent // 10,
        source=STUCK_SOURCE,
        parameters={"probability": percent / 100},
        edits=stuck_lidar,
    )


def camera_stuck(percent: int) -> Condition:
    """Stick each camera by itself at the sample before, in 10, 20, ..., 90 % of the samples."""
    return Condition(
        name=f"camera-stuck-{percent}",
        family="camera-stuck",
        severity=percent // 10,
        source=f"{STUCK_SOURCE}; MultiCorrupt's temporal misalignment of images, within a scene",
        parameters={"probability": percent / 100},
        edits=stuck_cameras,
    )
