"""A car by hand, in every convention it passes through: nuScenes, mmdet3d old and new, ours.

The ego is at (100, 50) m on the map and faces along the map's +y. The LiDAR is 2 m above it and
has x to the right, y ahead. A car of 4 x 2 x 1.5 m is 10 m ahead and 3 m to the left, on the
ground, and drives away at 5 m/s.
"""

import math

import numpy as np
import pytest
import torch
from mmdet3d.structures import LiDARInstance3DBoxes

from shared.data.features import Annotations, Frame
from shared.model.box_coder import Detections, decode_codes, encode_boxes
from shared.model.outputs import HeadOutputs
from stage1_extract.nuscenes.annotations import BoxTable, annotations_of
from stage1_extract.nuscenes.box_convention import NEW, OLD, to_new
from stage1_extract.plot_samples import boxes_in_lidar
from stage1_extract.plots.plot_scene import corners_of
from stage2_train.evaluation.detections import to_nuscenes

# x y z of the centre, length width height, yaw counter-clockwise from x, velocity; LiDAR frame.
OURS = [-3.0, 10.0, -1.25, 4.0, 2.0, 1.5, math.pi / 2, 0.0, 5.0]
# mmdet3d >= 1.0 (1.0.0rc5 and 1.4 alike): info files hold the centre, the box class the bottom.
MMDET3D_BOTTOM = [-3.0, 10.0, -2.0, 4.0, 2.0, 1.5, math.pi / 2, 0.0, 5.0]
# mmdet3d < 1.0: width before length, yaw clockwise from -y.
MMDET3D_OLD = [-3.0, 10.0, -1.25, 2.0, 4.0, 1.5, -math.pi, 0.0, 5.0]
# nuScenes: centre and velocity on the map, width before length, a quaternion w x y z.
NUSCENES = {
    "translation": [97.0, 60.0, 0.75],
    "size": [2.0, 4.0, 1.5],
    "rotation": [math.sqrt(0.5), 0.0, 0.0, math.sqrt(0.5)],
    "velocity": [0.0, 5.0],
}
CORNERS_X_M, CORNERS_Y_M, CORNERS_Z_M = (-4.0, -2.0), (8.0, 12.0), (-2.0, -0.5)
CAR = 0


def quarter_turn(*, left: bool, translation_m: list[float]) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:2, :2] = [[0, -1], [1, 0]] if left else [[0, 1], [-1, 0]]
    matrix[:3, 3] = translation_m
    return matrix


@pytest.fixture
def frame() -> Frame:
    table = BoxTable(
        boxes_lidar=np.array([OURS]),
        names=("car",),
        lidar_points=np.ones(1, np.int64),
        radar_points=np.zeros(1, np.int64),
    )
    annotations: Annotations = annotations_of(table)
    return Frame(
        token="sample",
        scene="scene",
        timestamp_us=1,
        variant=0,
        img_from_lidar=np.zeros((6, 4, 4)),
        ego_from_lidar=quarter_turn(left=False, translation_m=[0, 0, 2]),
        global_from_ego=quarter_turn(left=True, translation_m=[100, 50, 0]),
        annotations=annotations,
    )


@pytest.fixture
def detections() -> Detections:
    return Detections(
        boxes_lidar=torch.tensor([OURS]),
        scores=torch.ones(1),
        labels=torch.tensor([CAR]),
        queries=torch.zeros(1, dtype=torch.int64),
    )


def test_ours_on_the_map_is_the_nuscenes_box(detections: Detections, frame: Frame) -> None:
    (entry,) = to_nuscenes(detections, frame)
    for field, expected in NUSCENES.items():
        assert entry[field] == pytest.approx(expected, abs=1e-6), field


def test_the_nuscenes_box_in_the_lidar_frame_is_ours(frame: Frame) -> None:
    (box,) = boxes_in_lidar([NUSCENES], frame)
    np.testing.assert_allclose(box[:7], OURS[:7], atol=1e-12)


def test_mmdet3d_keeps_the_bottom_and_gives_our_centre() -> None:
    """The class of 1.4; that of 1.0.0rc5 agrees (README of the goldens, quirk 2)."""
    boxes = LiDARInstance3DBoxes(torch.tensor([OURS]), box_dim=9, origin=(0.5, 0.5, 0.5))
    np.testing.assert_allclose(boxes.tensor[0], MMDET3D_BOTTOM, atol=1e-6)
    np.testing.assert_allclose(boxes.gravity_center[0], OURS[:3], atol=1e-6)
    np.testing.assert_allclose(boxes.dims[0], OURS[3:6])
    np.testing.assert_allclose(boxes.yaw[0], OURS[6], atol=1e-6)


def test_both_have_the_same_corners() -> None:
    theirs = LiDARInstance3DBoxes(torch.tensor([MMDET3D_BOTTOM]), box_dim=9).corners[0].numpy()
    ours = corners_of(np.array([OURS]))[0]
    for axis, sides_m in enumerate((CORNERS_X_M, CORNERS_Y_M, CORNERS_Z_M)):
        for corners in (theirs, ours):
            np.testing.assert_allclose(sorted(set(corners[:, axis].round(5))), sides_m, atol=1e-5)


def test_an_old_info_file_holds_the_same_car() -> None:
    nothing = np.zeros(1, np.int64)
    old = BoxTable(
        boxes_lidar=np.array([MMDET3D_OLD]),
        names=("car",),
        lidar_points=nothing,
        radar_points=nothing,
    )
    np.testing.assert_allclose(to_new(old, OLD).boxes_lidar, [OURS], atol=1e-12)
    assert to_new(old, NEW) is old


def test_annotations_keep_the_centre(frame: Frame) -> None:
    np.testing.assert_allclose(frame.annotations.boxes_lidar, [OURS], atol=1e-6)


def test_the_head_speaks_of_sizes_by_their_logarithm_and_of_yaw_by_sine_and_cosine() -> None:
    codes = encode_boxes(torch.tensor([OURS]))
    logs = [math.log(4), math.log(2), -1.25, math.log(1.5)]
    np.testing.assert_allclose(codes[0], [-3, 10, *logs, 1, 0, 0, 5], atol=1e-6)
    np.testing.assert_allclose(decode_codes(codes), [OURS], atol=1e-6)


def test_the_branches_called_height_and_dim_hold_length_and_width_z_height() -> None:
    codes = encode_boxes(torch.tensor([OURS])).view(1, 1, 1, 10)
    center, height, dim, rot, vel = codes.split([2, 1, 3, 2, 2], dim=-1)
    outputs = HeadOutputs(
        center_xy_m=center,
        log_length=height,
        log_width_z_log_height=dim,
        yaw_sin_cos=rot,
        velocity_mps=vel,
        class_logits=torch.zeros(1, 1, 1, 10),
    )
    assert height.item() == pytest.approx(math.log(4.0))  # the length
    assert dim.flatten().tolist() == pytest.approx([math.log(2.0), -1.25, math.log(1.5)])
    assert torch.equal(outputs.codes, codes)
