"""Applies a condition to raw data, and refuses what its functions must not return.

P points.
"""

from collections.abc import Sequence

import numpy as np

from shared.config.classes import CAMERAS, LIDAR
from shared.errors import ConfigError
from stage1_extract.conditions.condition import Condition, Pixels, Points
from stage1_extract.conditions.sample_edits import COMPUTED, SampleEdits
from stage1_extract.nuscenes.records import Camera, SampleRecord

COLUMNS = 5


def edits_of(condition: Condition, records: Sequence[SampleRecord]) -> list[SampleEdits]:
    """Return which sensors of each sample are touched, in the order of the records.

    Args:
        condition: with `edits`, or a function that concerns LiDAR, images or both in every sample.
        records: all samples at hand; a sensor can only be stuck at one of them.

    Raises:
        ConfigError: if the condition's `edits` returns anything else than edits of these samples.
    """
    if condition.edits is None:
        everywhere = SampleEdits(
            lidar=COMPUTED if condition.changes_lidar else None,
            cameras=dict.fromkeys(CAMERAS, COMPUTED) if condition.changes_images else {},
        )
        return [everywhere] * len(records)
    return list(condition.edits(records, condition))


def changed_lidar_file(condition: Condition, points: Points, file: str) -> Points:
    """Return what a condition makes of a raw LiDAR file, (P, 5) float32.

    Args:
        condition: to apply.
        points: (P, 5) float32 as read; not changed.
        file: path below the dataset root, see `SampleRecord.relative`.

    Raises:
        ConfigError: if its function returns something that is not points.
    """
    if condition.lidar_file is None:
        return points
    changed = condition.lidar_file(points, condition.draw(file, LIDAR))
    return _checked_points(condition, "lidar_file", changed)


def changed_merged_points(condition: Condition, points: Points, record: SampleRecord) -> Points:
    """Return what a condition makes of keyframe and sweeps, (P, 5) float32.

    Raises:
        ConfigError: if its function returns something that is not points.
    """
    if condition.merged_points is None:
        return points
    changed = condition.merged_points(points, record, condition.draw(record.token, LIDAR))
    return _checked_points(condition, "merged_points", changed)


def changed_image(
    condition: Condition, pixels: Pixels, record: SampleRecord, camera: Camera, points: Points
) -> Pixels:
    """Return what a condition makes of an image, (H, W, 3) uint8, BGR.

    Args:
        condition: to apply.
        pixels: (H, W, 3) uint8, BGR, of the JPEG; not changed.
        record: the sample.
        camera: one of its cameras.
        points: of its keyframe's LiDAR file if the condition has `image_with_points`, else unused.

    Raises:
        ConfigError: if its function returns something else than such pixels.
    """
    draw = condition.draw(record.token, camera.name)
    if condition.image is not None:
        changed = condition.image(pixels, draw)
    elif condition.image_with_points is not None:
        changed = condition.image_with_points(pixels, points, camera, draw)
    else:
        return pixels
    if changed.shape != pixels.shape or changed.dtype != np.uint8:
        raise ConfigError(
            f"condition {condition.name}: its image function returned {changed.dtype} "
            f"{changed.shape}, expected uint8 {pixels.shape}"
        )
    return changed


def changed_poses(condition: Condition, record: SampleRecord) -> SampleRecord:
    """Return the record with the calibration that a condition gives it."""
    return record if condition.camera_poses is None else condition.camera_poses(record, condition)


def _checked_points(condition: Condition, hook: str, points: Points) -> Points:
    if points.ndim != 2 or points.shape[1] != COLUMNS or points.dtype != np.float32:
        raise ConfigError(
            f"condition {condition.name}: {hook} returned {points.dtype} {points.shape}, expected "
            f"float32 (points, {COLUMNS})"
        )
    if not np.isfinite(points).all():
        raise ConfigError(
            f"condition {condition.name}: {hook} returned numbers that are not finite"
        )
    return points
