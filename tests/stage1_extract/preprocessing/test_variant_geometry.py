"""Points, boxes and matrices move together, and each of these moves can be undone."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.config.augmentation import Augmentation
from shared.config.preset_catalogue import r50_800x320
from shared.data.features import NO_CAMERAS, Annotations
from stage1_extract.preprocessing.variant import Variant, draw_variant
from stage1_extract.preprocessing.variant_geometry import (
    augment_annotations,
    augment_boxes,
    augment_points,
    augmented_from_lidar,
    ego_from_augmented,
    img_from_augmented,
    lidar_from_augmented,
)

# A quarter turn to the left, twice as large, shifted; mirrored, left and right are swapped too.
HAND = Variant(rotation_rad=float(np.float32(np.pi / 2)), scale=2.0, translation_m=(1.0, 2.0, 3.0))
MIRRORED = replace(HAND, flip_y=True)
COORDINATE_M = 2.3e-5  # three float32 steps at 64 m
PIXEL = 0.008  # COORDINATE_M across and along a line of sight of slope 2, 6 m away
VARIANTS = [
    draw_variant("abc", n, seed=3, camera=r50_800x320().camera, augmentation=Augmentation())
    for n in range(1, 21)
]


@pytest.fixture
def points() -> NDArray[np.float32]:
    generator = np.random.default_rng(0)
    return generator.uniform([-54, -54, -5, 0, 0], [54, 54, 3, 255, 0.5], (50, 5)).astype(
        np.float32
    )


@pytest.fixture
def boxes() -> NDArray[np.float32]:
    generator = np.random.default_rng(1)
    low = [-50, -50, -2, 0.5, 0.5, 0.5, -np.pi, -9, -9]
    high = [50, 50, 2, 12, 4, 3, np.pi, 9, 9]
    return generator.uniform(low, high, (7, 9)).astype(np.float32)


def mapped(matrix: NDArray[np.float64], xyz: NDArray[np.float32]) -> NDArray[np.float64]:
    return xyz.astype(np.float64) @ matrix[:3, :3].T + matrix[:3, 3]


def test_a_point_turns_grows_shifts_and_flips_in_this_order() -> None:
    """(3, 4, 5) turns to (-4, 3, 5), grows to (-8, 6, 10), shifts to (-7, 8, 13)."""
    point = np.array([[3, 4, 5, 99, 0.25]], np.float32)
    before = point.copy()
    np.testing.assert_allclose(augment_points(point, HAND), [[-7, 8, 13, 99, 0.25]], atol=1e-6)
    np.testing.assert_allclose(augment_points(point, MIRRORED), [[-7, -8, 13, 99, 0.25]], atol=1e-6)
    front_back = replace(HAND, flip_x=True)
    np.testing.assert_allclose(augment_points(point, front_back), [[7, 8, 13, 99, 0.25]], atol=1e-6)
    np.testing.assert_array_equal(point, before)


def test_the_matrix_of_a_mirrored_quarter_turn() -> None:
    expected = [[0, -2, 0, 1], [-2, 0, 0, -2], [0, 0, 2, 3], [0, 0, 0, 1]]
    np.testing.assert_allclose(augmented_from_lidar(MIRRORED), expected, atol=1e-7)


def test_a_box_turns_its_yaw_and_velocity_and_grows_with_its_speed() -> None:
    """Size 4, 2, 1 m at (3, 4, 5), heading along x at 3 m/s."""
    box = np.array([[3, 4, 5, 4, 2, 1, 0, 3, 0]], np.float32)
    left = np.pi / 2
    np.testing.assert_allclose(
        augment_boxes(box, HAND), [[-7, 8, 13, 8, 4, 2, left, 0, 6]], atol=1e-6
    )
    np.testing.assert_allclose(
        augment_boxes(box, MIRRORED), [[-7, -8, 13, 8, 4, 2, -left, 0, -6]], atol=1e-6
    )
    both = replace(MIRRORED, flip_x=True)
    np.testing.assert_allclose(
        augment_boxes(box, both), [[7, -8, 13, 8, 4, 2, np.pi + left, 0, -6]], atol=1e-6
    )


@pytest.mark.parametrize(
    ("variant", "yaw"), [(Variant(flip_y=True), -0.3), (Variant(flip_x=True), 2.8416)]
)
def test_a_flip_keeps_the_yaw_convention(variant: Variant, yaw: float) -> None:
    box = np.array([[1, 2, 3, 4, 2, 1, 0.3, 0, 0]], np.float32)
    np.testing.assert_allclose(augment_boxes(box, variant)[0, 6], yaw, atol=1e-4)


def test_headings_and_velocities_follow_the_matrix(boxes: NDArray[np.float32]) -> None:
    for variant in VARIANTS:
        moved = augment_boxes(boxes, variant)
        linear = augmented_from_lidar(variant)[:2, :2]
        before, after = (np.stack([np.cos(b[:, 6]), np.sin(b[:, 6])]) for b in (boxes, moved))
        np.testing.assert_allclose(linear @ before / variant.scale, after, atol=1e-6)
        np.testing.assert_allclose(moved[:, 7:], boxes[:, 7:] @ linear.T, atol=1e-5)


def test_the_two_matrices_undo_each_other() -> None:
    for variant in [HAND, MIRRORED, *VARIANTS]:
        product = lidar_from_augmented(variant) @ augmented_from_lidar(variant)
        np.testing.assert_allclose(product, np.eye(4), rtol=0, atol=1e-14)


def test_points_and_boxes_follow_the_matrix(
    points: NDArray[np.float32], boxes: NDArray[np.float32]
) -> None:
    for variant in VARIANTS:
        matrix, in_order = augmented_from_lidar(variant), replace(variant, points_order_seed=None)
        moved = augment_points(points, in_order)
        np.testing.assert_allclose(moved[:, :3], mapped(matrix, points[:, :3]), atol=COORDINATE_M)
        np.testing.assert_array_equal(moved[:, 3:], points[:, 3:])
        centres = augment_boxes(boxes, variant)[:, :3]
        np.testing.assert_allclose(centres, mapped(matrix, boxes[:, :3]), atol=COORDINATE_M)


def test_a_point_keeps_its_pixel_and_its_depth(points: NDArray[np.float32]) -> None:
    """The camera is at the LiDAR's place and looks along x, 600 px to 45 degrees."""
    ahead = points[(points[:, 0] > 6) & (np.abs(points[:, 1]) < 2 * points[:, 0])]
    looking_along_x = [[400, -600, 0, 0], [160, 0, -600, 0], [1, 0, 0, 0], [0, 0, 0, 1]]
    img_from_lidar = np.array([looking_along_x], np.float64)
    before = mapped(img_from_lidar[0], ahead[:, :3])
    for variant in VARIANTS:
        moved = augment_points(ahead, replace(variant, points_order_seed=None))
        after = mapped(img_from_augmented(img_from_lidar, variant)[0], moved[:, :3])
        np.testing.assert_allclose(after[:, 2], before[:, 2], atol=COORDINATE_M)
        pixels, expected = after[:, :2] / after[:, 2:], before[:, :2] / before[:, 2:]
        np.testing.assert_allclose(pixels, expected, atol=PIXEL)


def test_a_point_keeps_its_place_in_the_ego_frame(points: NDArray[np.float32]) -> None:
    ego_from_lidar = np.array([[0, 1, 0, 0.9], [-1, 0, 0, 0], [0, 0, 1, 1.8], [0, 0, 0, 1.0]])
    for variant in VARIANTS:
        moved = augment_points(points, replace(variant, points_order_seed=None))
        in_ego = mapped(ego_from_augmented(ego_from_lidar, variant), moved[:, :3])
        np.testing.assert_allclose(in_ego, mapped(ego_from_lidar, points[:, :3]), atol=COORDINATE_M)


def test_boxes_still_contain_their_points(boxes: NDArray[np.float32]) -> None:
    """Points on the axes of each box, at 0.9 and at 1.1 of the way to its six faces."""
    inside = np.concatenate([0.45 * np.eye(3), -0.45 * np.eye(3)])
    for variant in VARIANTS:
        moved_boxes = augment_boxes(boxes, variant)
        for box, moved_box in zip(boxes, moved_boxes, strict=True):
            for share, expected in ((inside, True), (inside * 1.1 / 0.9, False)):
                cloud = np.zeros((6, 5), np.float32)
                cloud[:, :3] = box[:3] + turned(share * box[3:6], box[6])
                moved = augment_points(cloud, variant)
                back = turned(moved[:, :3] - moved_box[:3], -moved_box[6])
                contained = (np.abs(back) < moved_box[3:6] / 2).all(axis=1)
                assert (contained == expected).all()


def turned(xyz: NDArray[np.float32], yaw_rad: float) -> NDArray[np.float32]:
    cosine, sine = np.cos(yaw_rad), np.sin(yaw_rad)
    return xyz @ np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])


def test_a_variant_that_keeps_the_geometry_changes_no_bit(
    points: NDArray[np.float32], boxes: NDArray[np.float32]
) -> None:
    matrices = np.random.default_rng(2).normal(size=(6, 4, 4))
    assert augment_points(points, Variant()) is points
    assert augment_boxes(boxes, Variant()) is boxes
    assert img_from_augmented(matrices, Variant()) is matrices
    ego_from_lidar = matrices[0]
    assert ego_from_augmented(ego_from_lidar, Variant()) is ego_from_lidar


def test_points_of_a_variant_come_in_one_random_order(points: NDArray[np.float32]) -> None:
    in_order = augment_points(points, replace(VARIANTS[0], points_order_seed=None))
    shuffled = augment_points(points, VARIANTS[0])
    assert not np.array_equal(shuffled, in_order)
    np.testing.assert_array_equal(shuffled, augment_points(points, VARIANTS[0]))
    rows = np.lexsort(shuffled.T), np.lexsort(in_order.T)
    np.testing.assert_array_equal(shuffled[rows[0]], in_order[rows[1]])
    assert shuffled.dtype == np.float32


def test_nothing_becomes_nothing() -> None:
    assert augment_points(np.zeros((0, 5), np.float32), VARIANTS[0]).shape == (0, 5)
    assert augment_boxes(np.zeros((0, 9), np.float32), VARIANTS[0]).shape == (0, 9)
    assert img_from_augmented(NO_CAMERAS, VARIANTS[0]).shape == (0, 4, 4)


def test_an_unknown_velocity_stays_unknown(boxes: NDArray[np.float32]) -> None:
    boxes[2, 7:] = np.nan
    annotations = Annotations(
        boxes_lidar=boxes,
        labels=np.arange(7),
        lidar_points=np.arange(7),
        radar_points=np.arange(7),
    )
    moved = augment_annotations(annotations, VARIANTS[0])
    np.testing.assert_array_equal(np.isnan(moved.boxes_lidar).any(axis=1), np.arange(7) == 2)
    np.testing.assert_array_equal(np.isnan(moved.boxes_lidar[2]), [False] * 7 + [True] * 2)
    assert moved.labels is annotations.labels
    assert moved.boxes_lidar.dtype == np.float32
