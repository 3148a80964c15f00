"""Applies a condition to the raw data of samples, and refuses what its functions must not return.

P points.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from shared.config.classes import CAMERAS, LIDAR
from shared.errors import ConfigError
from stage1_extract.conditions.condition import Condition, Pixels, Points
from stage1_extract.conditions.sample_edits import (
    ABSENT,
    COMPUTED,
    SampleEdits,
    SensorEdit,
    StuckAt,
)
from stage1_extract.nuscenes.record_checks import checked_record
from stage1_extract.nuscenes.records import Camera, SampleRecord

COLUMNS = 5


class SampleChanges:
    """What a condition does to the data of a sample, sensor by sensor.

    Args:
        condition: to apply.
        record: the sample.
        edits: which of its sensors are touched; see `edits_of`.
    """

    def __init__(self, condition: Condition, record: SampleRecord, edits: SampleEdits) -> None:
        self.condition, self.record, self.edits = condition, record, edits

    def lidar_file(self, points: Points, file: Path) -> Points:
        """Return what becomes of a raw LiDAR file, (P, 5) float32: x y z, intensity, ring.

        Raises:
            ConfigError: if the condition's function returns something that is not points.
        """
        change = self.condition.lidar_file
        if change is None or self.edits.lidar is not COMPUTED:
            return points
        changed = change(points, self.condition.draw(self.record.relative(file), LIDAR))
        return self._checked_points("lidar_file", changed)

    def merged_points(self, points: Points) -> Points:
        """Return what becomes of keyframe and sweeps, (P, 5) float32: x y z, intensity, time lag.

        An absent LiDAR's points are zeros throughout, as official CMT has them.

        Raises:
            ConfigError: if the condition's function returns something that is not points.
        """
        if self.edits.lidar is ABSENT:
            return np.zeros_like(points)
        change = self.condition.merged_points
        if change is None or self.edits.lidar is not COMPUTED:
            return points
        changed = change(points, self.record, self.condition.draw(self.record.token, LIDAR))
        return self._checked_points("merged_points", changed)

    def image(self, pixels: Pixels, camera: Camera, keyframe: Callable[[], Points]) -> Pixels:
        """Return what becomes of an image, (H, W, 3) uint8, BGR; an absent camera's is black.

        Args:
            pixels: of the JPEG.
            camera: of the sample.
            keyframe: returns the (P, 5) points of the keyframe's LiDAR file; called if needed. They
                stay as they are, whatever the function does to its own.

        Raises:
            ConfigError: if the condition's function returns something else than such pixels.
        """
        edit = self.edits.cameras.get(camera.name)
        if edit is ABSENT:
            return np.zeros_like(pixels)
        if edit is not COMPUTED:
            return pixels
        draw = self.condition.draw(self.record.token, camera.name)
        if self.condition.image_with_points is not None:
            points = keyframe().copy()  # those of all cameras, and the function may edit its own
            changed = self.condition.image_with_points(pixels, points, camera, draw)
            return self._checked_pixels("image_with_points", changed, pixels)
        if self.condition.image is not None:
            return self._checked_pixels("image", self.condition.image(pixels, draw), pixels)
        return pixels

    def _checked_points(self, hook: str, points: Any) -> Points:
        expected = f"float32 (points, {COLUMNS})"
        if not isinstance(points, np.ndarray):
            self._refuse(hook, f"a {type(points).__name__}", expected)
        if points.ndim != 2 or points.shape[1] != COLUMNS or points.dtype != np.float32:
            self._refuse(hook, f"{points.dtype} {points.shape}", expected)
        if not np.isfinite(points).all():
            self._refuse(hook, "numbers that are NaN or infinite", "finite ones")
        return np.ascontiguousarray(points)

    def _checked_pixels(self, hook: str, pixels: Any, before: Pixels) -> Pixels:
        expected = f"uint8 {before.shape} as it was given"
        if not isinstance(pixels, np.ndarray):
            self._refuse(hook, f"a {type(pixels).__name__}", expected)
        if pixels.shape != before.shape or pixels.dtype != np.uint8:
            self._refuse(hook, f"{pixels.dtype} {pixels.shape}", expected)
        return np.ascontiguousarray(pixels)

    def _refuse(self, hook: str, returned: str, expected: str) -> NoReturn:
        raise ConfigError(
            f"condition {self.condition.name}: its {hook} returned {returned} for sample "
            f"{self.record.token}, expected {expected}; correct the function"
        )


def changes_of(condition: Condition, records: Sequence[SampleRecord]) -> list[SampleChanges]:
    """Return what happens to each sample, in the order of the records; see `edits_of`."""
    return [
        SampleChanges(condition, record, edits)
        for record, edits in zip(records, edits_of(condition, records), strict=True)
    ]


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
    edits = list(condition.edits(records, condition))
    if len(edits) != len(records):
        raise ConfigError(
            f"condition {condition.name}: its edits returned {len(edits)} entries for "
            f"{len(records)} samples, expected an entry for each, in their order"
        )
    for record, sample_edits in zip(records, edits, strict=True):
        _check_edits(condition, record, sample_edits)
    return edits


def changed_poses(condition: Condition, record: SampleRecord) -> SampleRecord:
    """Return the record with the calibration that a condition gives it.

    Raises:
        ConfigError: if the condition's function changed anything else.
        DatasetError: if a camera's pose is no pose any more.
    """
    if condition.camera_poses is None:
        return record
    changed = condition.camera_poses(record, condition)
    files = [(view.name, view.file) for view in record.cameras]
    if changed.token != record.token or files != [(v.name, v.file) for v in changed.cameras]:
        raise ConfigError(
            f"condition {condition.name}: its camera_poses returned other cameras or images than "
            f"those of sample {record.token}; change only rotation, translation_m and intrinsics"
        )
    return checked_record(changed)


def _check_edits(condition: Condition, record: SampleRecord, edits: SampleEdits) -> None:
    where = f"condition {condition.name}: its edits of sample {record.token}"
    if not isinstance(edits, SampleEdits):
        raise ConfigError(f"{where} are a {type(edits).__name__}, expected SampleEdits")
    unknown = [camera for camera in edits.cameras if camera not in CAMERAS]
    if unknown:
        raise ConfigError(
            f"{where} name camera {unknown[0]!r}; cameras are named, since repositories number "
            f"them differently: {', '.join(CAMERAS)}"
        )
    for sensor, edit in {LIDAR: edits.lidar, **edits.cameras}.items():
        known = isinstance(edit, SensorEdit | StuckAt) or (sensor == LIDAR and edit is None)
        changes = condition.changes_lidar if sensor == LIDAR else condition.changes_images
        if not known or (edit is COMPUTED and not changes):
            raise ConfigError(
                f"{where} have {edit!r} for {sensor}, expected ABSENT, StuckAt, or COMPUTED if a "
                "function of the condition changes that sensor's data"
            )
