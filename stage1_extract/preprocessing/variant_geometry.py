"""What a variant does to points, boxes and matrices: rotate, scale, shift, flip y, flip x.

The augmented LiDAR frame is where they end up; p_augmented = augmented_from_lidar @ p. Scaled and
perhaps mirrored, it is a similarity of the recorded frame, not a rigid motion. A variant without
rotation, scale, shift and flip returns its input unchanged.

P points, n boxes, V cameras.
"""

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from shared.data.features import Annotations
from stage1_extract.nuscenes.transforms import Matrix, product
from stage1_extract.preprocessing.variant import Variant

Rows = NDArray[np.float32]


def augmented_from_lidar(variant: Variant) -> Matrix:
    """Return the similarity (4, 4) float64, metres; what `augment_points` computes in float32."""
    turn, flips = _turn(variant), _flips(variant).astype(np.float64)
    matrix = np.eye(4)
    matrix[:3, :3] = flips[:, None] * variant.scale * turn
    matrix[:3, 3] = flips * variant.translation_m
    return matrix


def lidar_from_augmented(variant: Variant) -> Matrix:
    """Return the inverse of `augmented_from_lidar`, (4, 4) float64, metres."""
    turn, flips = _turn(variant), _flips(variant).astype(np.float64)
    cosine, sine = turn[0, 0], turn[1, 0]
    turn_back = turn.T.copy()
    turn_back[:2, :2] /= cosine * cosine + sine * sine  # rounded to float32, not quite 1
    matrix = np.eye(4)
    matrix[:3, :3] = turn_back * flips / variant.scale
    matrix[:3, 3] = -(turn_back * variant.translation_m).sum(axis=1) / variant.scale
    return matrix


def augment_points(points: Rows, variant: Variant) -> Rows:
    """Move the points of a cloud, and put them in the variant's order.

    Upstream: a sample without boxes is left as it is, and then not trained on.

    Args:
        points: (P, 5) float32, see `sweeps.load_points`; intensity and time lag stay.
        variant: of the sample.

    Source: CMT, `GlobalRotScaleTransAll` and `CustomRandomFlip3D`, then mmdet3d's `PointShuffle`.
    """
    moved = points
    if not variant.keeps_geometry:
        moved = np.concatenate([_move(points[:, :3], variant), points[:, 3:]], axis=1)
    if variant.points_order_seed is None:
        return moved
    # Not `permutation`, whose algorithm NumPy may change.
    draws = np.random.Generator(np.random.PCG64(variant.points_order_seed)).random(len(points))
    return moved[np.argsort(draws, kind="stable")]


def augment_boxes(boxes_lidar: Rows, variant: Variant) -> Rows:
    """Move boxes; velocities turn, flip and scale with them.

    Yaws grow beyond +-pi, as upstream before ObjectRangeFilter; `trainable_annotations` wraps them.

    Args:
        boxes_lidar: (n, 9) float32, see `shared.data.features.Annotations`; NaN velocities stay.
        variant: of the sample.

    Source: mmdet3d 1.0.0rc5, `LiDARInstance3DBoxes` (rotate, scale, translate, flip), which moves
    the centre of the bottom face.
    """
    if variant.keeps_geometry:
        return boxes_lidar
    scale, half = np.float32(variant.scale), np.float32(0.5)
    moved = boxes_lidar.copy()
    moved[:, 3:6] *= scale
    moved[:, 2] -= boxes_lidar[:, 5] * half
    moved[:, :3] = _move(moved[:, :3], variant)
    moved[:, 2] += moved[:, 5] * half
    moved[:, 6] += np.float32(variant.rotation_rad)
    if variant.flip_y:
        moved[:, 6] = -moved[:, 6]
    if variant.flip_x:
        moved[:, 6] = -moved[:, 6] + np.float32(np.pi)
    moved[:, 7:] = (
        _rotated(boxes_lidar[:, 7], boxes_lidar[:, 8], variant) * scale * _flips(variant)[:2]
    )
    return moved


def augment_annotations(annotations: Annotations, variant: Variant) -> Annotations:
    """Move the boxes; labels and point counts stay those of the sample."""
    boxes = augment_boxes(annotations.boxes_lidar, variant)
    return dataclasses.replace(annotations, boxes_lidar=boxes)


def img_from_augmented(img_from_lidar: Matrix, variant: Variant) -> Matrix:
    """Return projections of augmented points into the same pixels, (V, 4, 4) float64.

    Upstream: rotation and scale pass through float32 matrices, which moves pixels by about 1e-4.

    Args:
        img_from_lidar: (V, 4, 4) float64, for points as recorded.
        variant: of the sample.
    """
    return _before_augmenting(img_from_lidar, variant)


def ego_from_augmented(ego_from_lidar: Matrix, variant: Variant) -> Matrix:
    """Return where augmented points are in the ego frame, (4, 4) float64, metres.

    A similarity, perhaps mirrored: it is correct for points, but sizes and velocities of boxes come
    out too large by `scale`, and a yaw becomes the direction of the mapped (cos yaw, sin yaw, 0).
    """
    return _before_augmenting(ego_from_lidar, variant)


def _before_augmenting(matrices: Matrix, variant: Variant) -> Matrix:
    if variant.keeps_geometry:
        return matrices
    return product(matrices, lidar_from_augmented(variant))


def _move(xyz: Rows, variant: Variant) -> Rows:
    """Rotate, scale, shift, flip (P, 3) float32, rounded after each as upstream."""
    moved = np.column_stack([_rotated(xyz[:, 0], xyz[:, 1], variant), xyz[:, 2]])
    moved *= np.float32(variant.scale)
    moved += np.array(variant.translation_m, np.float32)
    moved *= _flips(variant)
    return moved


def _rotated(x: Rows, y: Rows, variant: Variant) -> Rows:
    """Rotate (P,) float32 x and y; (P, 2) float32.

    The first product is rounded to float32, the second and the sum together, like the fused
    instructions that torch uses upstream; in float64 every machine can do the same.
    """
    turn = _turn(variant)[:2, :2]
    columns = [(x * a.astype(np.float32) + y.astype(np.float64) * b) for a, b in turn]
    return np.column_stack(columns).astype(np.float32)


def _turn(variant: Variant) -> Matrix:
    """Return the rotation (3, 3), its cosine and sine rounded to float32 and widened again.

    Upstream: torch's cosine and sine of a float32, which are one step off in one case of twenty.
    """
    cosine = float(np.float32(math.cos(variant.rotation_rad)))
    sine = float(np.float32(math.sin(variant.rotation_rad)))
    return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])


def _flips(variant: Variant) -> Rows:
    """Return the signs of x, y and z, (3,) float32."""
    return np.array([-1 if variant.flip_x else 1, -1 if variant.flip_y else 1, 1], np.float32)
