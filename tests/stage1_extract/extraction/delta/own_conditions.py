"""Conditions of a user, for the synthetic set of three samples: named as own_conditions.py:NAME."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from shared.config.classes import CAMERAS
from stage1_extract.conditions.condition import Condition, Pixels, Points
from stage1_extract.conditions.draw import Draw
from stage1_extract.conditions.sample_edits import ABSENT, COMPUTED, SampleEdits, StuckAt
from stage1_extract.nuscenes.records import SampleRecord


def mixed() -> Condition:
    """Everything at once: each sample has computed, absent, stuck and untouched sensors."""
    return Condition(
        name="mixed",
        family="mixed",
        source="made up for tests",
        parameters={"share": 0.5},
        lidar_file=_half_of_the_points,
        image=_darker,
        camera_poses=_shifted,
        edits=_mixed_edits,
    )


def unchanged() -> Condition:
    """A condition whose functions do nothing."""
    return Condition(
        name="unchanged",
        family="unchanged",
        source="made up for tests",
        lidar_file=lambda points, draw: points,
        image=lambda pixels, draw: pixels,
    )


def meant() -> Condition:
    """The same, and meant so."""
    return replace(unchanged(), name="meant", may_change_nothing=True)


def only_keyframes() -> Condition:
    """A condition that reads the time lag of merged points, and forgets those of sweeps."""
    return Condition(
        name="only-keyframes",
        family="only-keyframes",
        source="made up for tests",
        merged_points=_without_half_of_the_keyframe,
    )


def keyframes_on_purpose() -> Condition:
    """The same, and meant so."""
    return replace(only_keyframes(), name="keyframes-on-purpose", keyframe_only=True)


def untouched() -> Condition:
    """A condition that touches no sensor of any sample."""
    return Condition(
        name="untouched",
        family="untouched",
        source="made up for tests",
        edits=lambda records, condition: [SampleEdits()] * len(records),
    )


def front_stuck_in_the_third_sample() -> Condition:
    """The front camera and the LiDAR of the third sample deliver the second one's data."""

    def edits(records: Sequence[SampleRecord], condition: Condition) -> list[SampleEdits]:
        stuck = StuckAt(records[1].token)
        third = SampleEdits(lidar=stuck, cameras={CAMERAS[0]: stuck})
        return [SampleEdits(), SampleEdits(), third]

    return Condition(
        name="stuck-third", family="stuck-third", source="made up for tests", edits=edits
    )


def _half_of_the_points(points: Points, draw: Draw) -> Points:
    return points[draw.uniform(len(points)) < 0.5]


def _darker(pixels: Pixels, draw: Draw) -> Pixels:
    return (pixels * (0.2 + 0.5 * draw.uniform(1)[0])).astype(np.uint8)


def _shifted(record: SampleRecord, condition: Condition) -> SampleRecord:
    cameras = tuple(
        replace(
            view,
            translation_m=view.translation_m + condition.draw(record.token, view.name).normal(3),
        )
        for view in record.cameras
    )
    return replace(record, cameras=cameras)


def _mixed_edits(records: Sequence[SampleRecord], condition: Condition) -> list[SampleEdits]:
    first, second, _ = (record.token for record in records)
    return [
        SampleEdits(lidar=COMPUTED, cameras={CAMERAS[0]: COMPUTED}),
        SampleEdits(
            lidar=StuckAt(first),
            cameras={CAMERAS[1]: ABSENT, CAMERAS[2]: COMPUTED, CAMERAS[5]: COMPUTED},
        ),
        SampleEdits(
            lidar=ABSENT,
            cameras={
                CAMERAS[0]: StuckAt(second),
                CAMERAS[3]: StuckAt(first),
                CAMERAS[4]: COMPUTED,
            },
        ),
    ]


def _without_half_of_the_keyframe(points: Points, record: SampleRecord, draw: Draw) -> Points:
    is_lost = (points[:, 4] == 0) & (draw.uniform(len(points)) < 0.5)
    return points[~is_lost]
