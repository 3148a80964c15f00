"""One frame of a v2 info file (mmdet3d >= 1.1): nested dicts, float32 matrices, times in seconds.

The boxes are centred at their gravity centre, like v1's (`bbox_3d` of `instances`; mmdet3d 1.4
reads them with origin (0.5, 0.5, 0.5)), and keep their float64. Only the poses lost precision:
measured on the 81 frames of mini_val against the tables, a sweep's points move by up to 0.002 mm, a
projection by 0.0001 px (at 1600 x 900, beyond 1 m), a global pose by 0.06 mm.
"""

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
from stage1_extract.nuscenes.record_checks import LAST_ROW_ERROR, require_time
from stage1_extract.nuscenes.records import Camera, SampleRecord, Sweep, recording_of
from stage1_extract.nuscenes.transforms import turned

OTHER_NAME = "other"  # v2 writes label -1 and keeps no name


def class_names_v2(metainfo: Mapping[str, Any]) -> dict[int, str]:
    """Return the name of each label, from the file's own list (not in CMT's order)."""
    labels: Mapping[str, int] = metainfo["categories"]
    return {label: class_name(name) for name, label in labels.items() if label >= 0}


def boxes_v2(info: Mapping[str, Any], class_names: Mapping[int, str]) -> BoxTable:
    """Return the boxes as stored, in the file's own convention; none in a test file."""
    instances = info["instances"]
    if not instances:
        return NO_BOXES
    labels = [instance["bbox_label_3d"] for instance in instances]
    unnamed = sorted({label for label in labels if label >= 0} - class_names.keys())
    if unnamed:
        raise DatasetError(
            f"boxes have the labels {unnamed}, which metainfo's categories do not name; create the "
            "file again with mmdet3d, or read the nuScenes tables instead"
        )
    names = [OTHER_NAME if label < 0 else class_names[label] for label in labels]
    rows = [[*instance["bbox_3d"], *instance["velocity"]] for instance in instances]
    return BoxTable(
        boxes_lidar=np.array(rows, np.float64).reshape(len(instances), 9),
        names=tuple(names),
        lidar_points=np.array([row["num_lidar_pts"] for row in instances], np.int64),
        radar_points=np.array([row["num_radar_pts"] for row in instances], np.int64),
    )


def record_v2(info: Mapping[str, Any], root: Path, annotations: Annotations) -> SampleRecord:
    """Return the record of one v2 info.

    Raises:
        DatasetError: if a time is not in seconds, or a path is not a nuScenes path.
        KeyError: if the info lacks a key (`info_files` says which file and frame).
    """
    lidar = info["lidar_points"]
    lidar_file = file_below(root, lidar["lidar_path"], f"samples/{LIDAR}")
    # mmdet3d leaves the key out of a scene's first frame, which has no sweeps.
    sweeps = info.get("lidar_sweeps", ())
    return SampleRecord(
        root=root,
        token=str(info["token"]),
        scene=recording_of(lidar_file),
        timestamp_us=_microseconds(info["timestamp"]),
        lidar_file=lidar_file,
        sweeps=tuple(_sweep(sweep, root) for sweep in sweeps),
        cameras=tuple(_camera(info["images"][name], name, root) for name in CAMERAS),
        ego_from_lidar=_matrix(lidar["lidar2ego"]),
        global_from_ego=_matrix(info["ego2global"]),
        annotations=annotations,
    )


def _sweep(sweep: Mapping[str, Any], root: Path) -> Sweep:
    points = sweep["lidar_points"]
    # `lidar2sensor` is sweep from keyframe. Composing lidar2ego and ego2global instead would
    # inherit the float32 rounding of global coordinates, 0.06 mm.
    rotation, translation_m = _inverse(_matrix(points["lidar2sensor"]))
    return Sweep(
        file=file_below(root, points["lidar_path"], f"sweeps/{LIDAR}"),
        timestamp_us=_microseconds(sweep["timestamp"]),
        rotation=rotation,
        translation_m=translation_m,
    )


def _camera(camera: Mapping[str, Any], name: str, root: Path) -> Camera:
    rotation, translation_m = _inverse(_matrix(camera["lidar2cam"]))
    return Camera(
        name=name,
        file=file_below(root, camera["img_path"], f"samples/{name}"),
        intrinsics=np.array(camera["cam2img"], np.float64)[:3, :3].copy(),
        rotation=rotation,
        translation_m=translation_m,
    )


def _matrix(values: Any) -> NDArray[np.float64]:
    matrix = np.array(values, np.float64).reshape(4, 4)
    if not np.abs(matrix[3] - (0, 0, 0, 1)).max() <= LAST_ROW_ERROR:
        raise DatasetError(
            f"a pose ends with the row {matrix[3].tolist()}, expected 0, 0, 0, 1: it is transposed "
            "or damaged, so create the file again, or read the nuScenes tables instead"
        )
    return matrix


def _inverse(matrix: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Undo update_infos_to_v2.py, which stored rot.T and -rot.T @ trans."""
    rotation = matrix[:3, :3].T
    return rotation, -turned(rotation, matrix[:3, 3])


def _microseconds(time_s: float) -> int:
    require_time(time_s, "seconds", "timestamp")
    return round(time_s * 1e6)  # exact: float64 seconds of this century resolve 0.24 us
