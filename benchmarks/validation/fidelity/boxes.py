"""Fidelity of the boxes: mmdet3d's box class and filters, and nuscenes-devkit's boxes."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from mmdet3d.datasets import NuScenesDataset
from mmdet3d.datasets.transforms import ObjectNameFilter, ObjectRangeFilter
from mmdet3d.structures import LiDARInstance3DBoxes, limit_period
from numpy.typing import NDArray
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.data_classes import Box
from pyquaternion import Quaternion

from benchmarks.validation.fidelity.rows import PRESETS, Gap, RealFrame, Row, counted
from shared.config.classes import CLASS_NAMES, LIDAR
from shared.data.features import Annotations
from shared.data.targets import trainable_annotations
from stage1_extract.nuscenes.info_files import read_infos
from stage1_extract.nuscenes.records import SampleRecord
from stage1_extract.plots.plot_scene import corners_of

STEP = "boxes"
CENTRE = (0.5, 0.5, 0.5)  # where in a box its z is; mmdet3d assumes the bottom by default
GRID = PRESETS[0].grid
# Orders of our corners that match mmdet3d, and nuscenes-devkit.
TO_MMDET3D = [6, 7, 4, 5, 2, 3, 0, 1]
TO_DEVKIT = [0, 3, 2, 1, 4, 7, 6, 5]
OLD_INFOS = "infos/nuscenes_infos_val.mini.v1.fastbev.pkl"  # mmdet3d < 1.0


def mmdet3d_annotations(info: dict[str, Any], *, valid_flag: bool = False) -> dict[str, Any]:
    """Return a frame's annotations from mmdet3d's dataset, in CMT's class order."""
    dataset = NuScenesDataset(
        data_root="",
        ann_file="",
        metainfo={"classes": CLASS_NAMES},
        use_valid_flag=valid_flag,
        lazy_init=True,
    )
    classes = NuScenesDataset.METAINFO["classes"]
    instances = []
    for index, name in enumerate(info["gt_names"]):
        label = classes.index(name) if name in classes else -1
        instances.append(
            {  # a v2 instance, as update_infos_to_v2.py writes it
                "bbox_3d": info["gt_boxes"][index].tolist(),
                "bbox_label": label,
                "bbox_label_3d": label,
                "velocity": info["gt_velocity"][index].tolist(),
                "num_lidar_pts": info["num_lidar_pts"][index],
                "num_radar_pts": info["num_radar_pts"][index],
                "bbox_3d_isvalid": info["valid_flag"][index],
            }
        )
    annotations: dict[str, Any] = dataset.parse_ann_info({"instances": instances})
    return annotations


def centred(boxes: LiDARInstance3DBoxes) -> torch.Tensor:
    """Return (n, 9) boxes with the z of the centre, as in CMT's targets."""
    return torch.cat([boxes.gravity_center, boxes.tensor[:, 3:]], dim=1)


def box_classes(frames: Sequence[RealFrame]) -> Iterator[Row]:
    """Compare with mmdet3d's box class: z, corners, yaw."""
    centres, bottoms, corners, yaws = Gap(), Gap(), Gap(), Gap()
    for frame in frames:
        ours = frame.record.annotations.boxes_lidar
        stored = np.concatenate([frame.info["gt_boxes"], frame.info["gt_velocity"]], axis=1)
        theirs = LiDARInstance3DBoxes(stored.astype(np.float32), box_dim=9, origin=CENTRE)
        centres.add(ours, centred(theirs))
        bottoms.add(ours[:, 2] - ours[:, 5] / 2, theirs.bottom_height)
        corners.add(corners_of(ours.astype(np.float64))[:, TO_MMDET3D], theirs.corners)
        for turns in (-3, -1, 1, 2):
            turned = frame.record.annotations
            boxes = turned.boxes_lidar.copy()
            boxes[:, 6] += np.float32(2 * np.pi * turns)
            kept = trainable_annotations(_with_boxes(turned, boxes), GRID).boxes_lidar[:, 6]
            limited = LiDARInstance3DBoxes(torch.from_numpy(boxes), box_dim=9, origin=CENTRE)
            limited.limit_yaw(offset=0.5, period=2 * np.pi)
            yaws.add(kept, limited.tensor[trained(turned), 6])
    against = "mmdet3d LiDARInstance3DBoxes"
    name = "annotations_of"
    yield centres.row(STEP, name, f"{against}, gravity centre", "9 columns", "NaN on both sides")
    what = "z of the bottom (m)"
    yield bottoms.row(STEP, f"{name}, z - h/2", f"{against}, bottom", what, "same float32 steps")
    remark = "ours in float64; equal corner for corner, so heading and z agree"
    yield corners.row(STEP, "corners_of", f"{against}.corners", "corners (m)", remark)
    remark = "yaws of the frames, with whole turns added"
    name = "trainable_annotations"
    yield yaws.row(STEP, name, f"{against}.limit_yaw", "yaw (rad)", remark)


def trained(annotations: Annotations) -> NDArray[np.bool_]:
    """Return which boxes `trainable_annotations` keeps, identified by number."""
    numbered = annotations.boxes_lidar.copy()
    numbered[:, 8] = np.arange(len(numbered))
    kept = trainable_annotations(_with_boxes(annotations, numbered), GRID).boxes_lidar[:, 8]
    return np.isin(np.arange(len(numbered)), kept)


def _with_boxes(annotations: Annotations, boxes: NDArray[np.float32]) -> Annotations:
    return Annotations(
        boxes_lidar=boxes,
        labels=annotations.labels,
        lidar_points=annotations.lidar_points,
        radar_points=annotations.radar_points,
    )


def filtering(frames: Sequence[RealFrame]) -> Iterator[Row]:
    """Compare with mmdet3d's dataset and its range and name filters."""
    boxes, labels, kept, valid, of = Gap(), Gap(), 0, 0, 0
    for frame in frames:
        annotations = mmdet3d_annotations(frame.info)
        for step in (ObjectRangeFilter(list(GRID.point_range_m)), ObjectNameFilter(CLASS_NAMES)):
            annotations = step(annotations)
        ours = trainable_annotations(frame.record.annotations, GRID)
        boxes.add(ours.boxes_lidar, centred(annotations["gt_bboxes_3d"]))
        labels.add(ours.labels, annotations["gt_labels_3d"])
        by_flag = mmdet3d_annotations(frame.info, valid_flag=True)
        valid += len(by_flag["gt_labels_3d"])
        kept += int((frame.record.annotations.lidar_points > 0).sum())
        of += len(frame.record.annotations.labels)
    name = "trainable_annotations"
    against = "mmdet3d NuScenesDataset, ObjectRangeFilter, ObjectNameFilter"
    remark = f"{labels.of} boxes kept of {of} on both sides"
    yield boxes.row(STEP, name, against, "9 columns of every box", remark)
    remark = "both use CMT's class order, which is not mmdet3d's"
    yield labels.row(STEP, name, against, "labels", remark)
    name += ", before range and class"
    against, what = "mmdet3d NuScenesDataset(use_valid_flag=True)", "boxes with radar points only"
    remark = "kept there, dropped here: CMT does not set the flag, MIT's BEVFusion does"
    yield counted(STEP, name, against, what, valid - kept, of, remark)


def lidar_boxes(tables: NuScenes, record: SampleRecord, *, level: bool = False) -> list[Box]:
    """Return nuscenes-devkit's boxes, moved into the LiDAR frame by its own methods.

    Args:
        tables: of the dataset.
        record: the frame.
        level: drop the vertical velocity before rotating, as mmdet3d's converter does.
    """
    token = tables.get("sample", record.token)["data"][LIDAR]
    data = tables.get("sample_data", token)
    poses = (
        tables.get("ego_pose", data["ego_pose_token"]),
        tables.get("calibrated_sensor", data["calibrated_sensor_token"]),
    )
    boxes: list[Box] = tables.get_boxes(token)
    for box in boxes:
        box.velocity = tables.box_velocity(box.token) * (1, 1, 0 if level else 1)
        for pose in poses:
            box.translate(-np.array(pose["translation"]))
            box.rotate(Quaternion(pose["rotation"]).inverse)
    return boxes


def devkit_boxes(frames: Sequence[RealFrame]) -> Iterator[Row]:
    """Compare with the devkit's boxes, and measure the tilt that a yaw omits."""
    root = frames[0].record.root
    tables = NuScenes("v1.0-mini", str(root), verbose=False)
    old = {record.token: record for record in read_infos(root / OLD_INFOS, root)}
    centres, sizes, yaws, corners, converted = (Gap() for _ in range(5))
    velocities = {False: Gap(), True: Gap()}
    for frame in frames:
        theirs = lidar_boxes(tables, frame.record)
        ours = frame.record.annotations.boxes_lidar
        centres.add(ours[:, :3], [box.center for box in theirs])
        sizes.add(ours[:, 3:6], [box.wlh[[1, 0, 2]] for box in theirs])
        yaws_rad = np.array([box.orientation.yaw_pitch_roll[0] for box in theirs])
        yaws.add(limit_period(ours[:, 6] - yaws_rad, period=2 * np.pi), np.zeros(len(theirs)))
        tilted = np.array([box.corners().T for box in theirs])
        corners.add(corners_of(ours.astype(np.float64))[:, TO_DEVKIT], tilted)
        if frame.record.token in old:  # its scene is complete, so that it has velocities
            for level, gap in velocities.items():
                turned = lidar_boxes(tables, frame.record, level=level)
                gap.add(ours[:, 7:], [box.velocity[:2] for box in turned])
            converted.add(ours, old[frame.record.token].annotations.boxes_lidar)
    name, against = "read_infos", "nuscenes-devkit Box in the LiDAR frame"
    rounding = "float32 against float64"
    yield centres.row(STEP, name, against, "centre (m)", rounding)
    yield sizes.row(STEP, name, against, "length, width, height (m)", rounding)
    yield yaws.row(STEP, name, against, "yaw (rad)", rounding)
    remark = "like mmdet3d's converter, we drop the global vertical velocity before rotating"
    yield velocities[False].row(STEP, name, against, "velocity (m/s)", remark)
    levelled = f"{against}, vertical velocity 0"
    yield velocities[True].row(STEP, name, levelled, "velocity (m/s)", rounding)
    remark = "a yaw has no roll and pitch, as in mmdet3d"
    yield corners.row(STEP, "corners_of", f"{against}, corners", "corners (m)", remark)
    remark = "lengths swapped and yaw rotated by us; same frame"
    against = "read_infos of an mmdet3d < 1.0 file"
    yield converted.row(STEP, name, against, "9 columns", remark)
