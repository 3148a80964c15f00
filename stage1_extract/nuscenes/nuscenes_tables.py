"""Samples directly from the nuScenes tables, through nuscenes-devkit; no prepared pickle is needed.

The records equal those of mmdet3d's v1 info files: same numbers, same formulas. Only boxes, which
such a file holds as float64 of BLAS, may be rounded to the next float32, a few in a billion.
"""

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shared.config.classes import CAMERAS, LIDAR
from shared.config.preset import MAX_SWEEPS
from shared.errors import DatasetError
from shared.process.memory.without_collection import without_collection
from stage1_extract.nuscenes.annotations import (
    NO_BOXES,
    BoxTable,
    annotations_of,
    class_name,
    refuse_unknown_names,
)
from stage1_extract.nuscenes.record_checks import checked_boxes, checked_record
from stage1_extract.nuscenes.records import (
    Camera,
    SampleRecord,
    Sweep,
    arrange,
    recording_of,
)
from stage1_extract.nuscenes.transforms import (
    SensorPose,
    inverse,
    inverse_quaternion,
    lidar_from_sensor,
    quaternion_product,
    rotation_matrix,
    turned,
    unit_quaternion,
    yaw_rad,
)

# The devkit also imports matplotlib and scikit-learn, so it waits until tables are read.
if TYPE_CHECKING:
    from nuscenes.nuscenes import NuScenes

SPLITS_OF_VERSION = {
    "v1.0-mini": ("mini_train", "mini_val"),
    "v1.0-trainval": ("train", "val", "train_detect", "train_track"),
    "v1.0-test": ("test",),
}


def read_tables(
    root: Path, version: str, split: str, *, existing_only: bool = False
) -> list[SampleRecord]:
    """Return the keyframes of an official split, sorted by time.

    Args:
        root: folder that holds `version`, samples/ and sweeps/.
        version: v1.0-mini, v1.0-trainval or v1.0-test.
        split: one of `SPLITS_OF_VERSION`, or several joined by "+" ("mini_train+mini_val").
        existing_only: leave out samples and sweeps whose files are missing, and log how many.

    Raises:
        DatasetError: if the version is missing, the split does not belong to it or is empty, or the
            tables contradict each other.
    """
    root = Path(root).absolute()
    scenes = _scenes_of(root, version, split)
    source = f"{root / version}, split {split}"
    tables = _open(root, version)
    chosen = {scene["token"] for scene in tables.scene if scene["name"] in scenes}
    try:
        samples = [sample for sample in tables.sample if sample["scene_token"] in chosen]
        refuse_unknown_names(_names(tables, samples), source)
        records = [_record(tables, root, sample) for sample in samples]
    except KeyError as missing:
        raise DatasetError(
            f"{root / version}: the tables refer to {missing}, which is not in them; "
            "are all of them from the same download?"
        ) from missing
    # 6 GB of tables would stay until Python looks for circles: their explorer refers back, and what
    # the devkit imports refers to this frame.
    tables.explorer = None
    del tables, samples
    return arrange(records, existing_only=existing_only, source=source)


def _scenes_of(root: Path, version: str, split: str) -> set[str]:
    if version not in SPLITS_OF_VERSION:
        raise DatasetError(
            f"unknown nuScenes version {version!r}; known are {', '.join(SPLITS_OF_VERSION)}"
        )
    if not (root / version).is_dir():
        versions = sorted(folder.name for folder in root.glob("v1.0-*") if folder.is_dir())
        option = f", choose --version {versions[0]}," if versions else ""
        raise DatasetError(
            f"{root} has no folder {version} with the nuScenes tables (found: "
            f"{', '.join(versions) or 'none'}); unpack the metadata there{option} or give a "
            "different root"
        )
    known = SPLITS_OF_VERSION[version]
    unknown = [name for name in split.split("+") if name not in known]
    if unknown:
        raise DatasetError(
            f"{version} has no split {unknown[0]!r}; choose --split {' or '.join(known)}; several "
            'may be joined by "+"'
        )
    from nuscenes.utils.splits import create_splits_scenes

    by_split = create_splits_scenes()
    return {scene for name in split.split("+") for scene in by_split[name]}


def _open(root: Path, version: str) -> "NuScenes":
    from nuscenes.nuscenes import NuScenes

    try:
        with without_collection():
            return NuScenes(version, str(root), verbose=False)
    except (AssertionError, FileNotFoundError) as missing:
        raise DatasetError(
            f"nuscenes-devkit cannot open {root / version}: {missing}. It needs all 13 tables and "
            "maps/*.png; unpack the metadata and map archives completely"
        ) from missing
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as fault:
        raise DatasetError(
            f"nuscenes-devkit cannot read the tables in {root / version} "
            f"({type(fault).__name__}: {fault}); a table is damaged or from a different version, "
            "so unpack the metadata again"
        ) from fault


def _names(tables: "NuScenes", samples: list[dict[str, Any]]) -> Counter[str]:
    """Count the boxes of each class."""
    tokens = (token for sample in samples for token in sample["anns"])
    return Counter(
        class_name(tables.get("sample_annotation", token)["category_name"]) for token in tokens
    )


def _record(tables: "NuScenes", root: Path, sample: dict[str, Any]) -> SampleRecord:
    try:
        return checked_record(_unchecked_record(tables, root, sample))
    except DatasetError as fault:
        raise DatasetError(f"{tables.table_root}, sample {sample['token']}: {fault}") from fault


def _unchecked_record(tables: "NuScenes", root: Path, sample: dict[str, Any]) -> SampleRecord:
    keyframe = tables.get("sample_data", sample["data"][LIDAR])
    pose = _pose(tables, keyframe)
    lidar_file = root / keyframe["filename"]
    return SampleRecord(
        root=root,
        token=sample["token"],
        scene=recording_of(lidar_file),
        timestamp_us=sample["timestamp"],
        lidar_file=lidar_file,
        sweeps=_sweeps(tables, root, keyframe, pose),
        cameras=tuple(_camera(tables, root, sample["data"][name], name, pose) for name in CAMERAS),
        ego_from_lidar=pose.ego_from_sensor,
        global_from_ego=pose.global_from_ego,
        annotations=annotations_of(checked_boxes(_boxes(tables, sample["anns"], pose))),
    )


def _pose(tables: "NuScenes", sample_data: dict[str, Any]) -> SensorPose:
    sensor = tables.get("calibrated_sensor", sample_data["calibrated_sensor_token"])
    ego = tables.get("ego_pose", sample_data["ego_pose_token"])
    return SensorPose(
        ego_from_sensor_rotation=sensor["rotation"],
        ego_from_sensor_m=sensor["translation"],
        global_from_ego_rotation=ego["rotation"],
        global_from_ego_m=ego["translation"],
    )


def _sweeps(
    tables: "NuScenes", root: Path, keyframe: dict[str, Any], pose: SensorPose
) -> tuple[Sweep, ...]:
    sweeps: list[Sweep] = []
    previous = keyframe["prev"]
    while previous and len(sweeps) < MAX_SWEEPS:
        data = tables.get("sample_data", previous)
        rotation, translation_m = lidar_from_sensor(_pose(tables, data), pose)
        sweeps.append(
            Sweep(
                file=root / data["filename"],
                timestamp_us=data["timestamp"],
                rotation=rotation,
                translation_m=translation_m,
            )
        )
        previous = data["prev"]
    return tuple(sweeps)


def _camera(tables: "NuScenes", root: Path, token: str, name: str, pose: SensorPose) -> Camera:
    data = tables.get("sample_data", token)
    sensor = tables.get("calibrated_sensor", data["calibrated_sensor_token"])
    rotation, translation_m = lidar_from_sensor(_pose(tables, data), pose)
    return Camera(
        name=name,
        file=root / data["filename"],
        intrinsics=np.array(sensor["camera_intrinsic"], dtype=np.float64),
        rotation=rotation,
        translation_m=translation_m,
    )


def _boxes(tables: "NuScenes", tokens: list[str], pose: SensorPose) -> BoxTable:
    """Return a keyframe's boxes in its LiDAR frame, mmdet3d >= 1.0 convention.

    Source: nuscenes-devkit `NuScenes.get_sample_data` and mmdet3d's `_fill_trainval_infos`; the
    same operations per box, except that what all boxes share is computed once.
    """
    if not tokens:
        return NO_BOXES
    annotations = [tables.get("sample_annotation", token) for token in tokens]
    ego_turn = inverse_quaternion(unit_quaternion(pose.global_from_ego_rotation))
    lidar_turn = inverse_quaternion(unit_quaternion(pose.ego_from_sensor_rotation))
    ego_from_global, lidar_from_ego = rotation_matrix(ego_turn), rotation_matrix(lidar_turn)
    # Upstream: velocities are rotated by inverted matrices, boxes by inverted quaternions.
    velocity_ego = inverse(rotation_matrix(pose.global_from_ego_rotation))
    velocity_lidar = inverse(rotation_matrix(pose.ego_from_sensor_rotation))
    boxes = np.empty((len(tokens), 9))
    for row, annotation in zip(boxes, annotations, strict=True):
        centre = np.array(annotation["translation"]) + -np.array(pose.global_from_ego_m)
        centre = turned(ego_from_global, centre) + -np.array(pose.ego_from_sensor_m)
        turn = quaternion_product(ego_turn, unit_quaternion(annotation["rotation"]))
        width, length, height = annotation["size"]
        velocity = np.array([*tables.box_velocity(annotation["token"])[:2], 0.0])
        row[:3] = turned(lidar_from_ego, centre)
        row[3:6] = length, width, height
        row[6] = yaw_rad(quaternion_product(lidar_turn, turn))
        row[7:] = turned(velocity_lidar, turned(velocity_ego, velocity))[:2]
    categories = [annotation["category_name"] for annotation in annotations]
    return BoxTable(
        boxes_lidar=boxes,
        names=tuple(class_name(category) for category in categories),
        lidar_points=np.array([a["num_lidar_pts"] for a in annotations], dtype=np.int64),
        radar_points=np.array([a["num_radar_pts"] for a in annotations], dtype=np.int64),
    )
