"""Sensors that measure nothing: always, or each camera image with a probability."""

from collections.abc import Sequence

from shared.config.classes import CAMERAS
from stage1_extract.conditions.condition import Condition
from stage1_extract.conditions.sample_edits import ABSENT, SampleEdits
from stage1_extract.nuscenes.records import SampleRecord


def losing_lidar(records: Sequence[SampleRecord], condition: Condition) -> list[SampleEdits]:
    """Take the LiDAR away from every sample."""
    return [SampleEdits(lidar=ABSENT)] * len(records)


def losing_cameras(records: Sequence[SampleRecord], condition: Condition) -> list[SampleEdits]:
    """Take the cameras that the condition's `cameras` names away from every sample."""
    edits = SampleEdits(cameras=dict.fromkeys(condition.parameters["cameras"], ABSENT))
    return [edits] * len(records)


def losing_images(records: Sequence[SampleRecord], condition: Condition) -> list[SampleEdits]:
    """Take each image away with the condition's `probability`, independently of all others.

    Source: MultiCorrupt, converter/img_converter.py, missing camera.
    """
    probability = condition.parameters["probability"]
    return [
        SampleEdits(
            cameras={
                camera: ABSENT
                for camera in CAMERAS
                if condition.draw(record.token, camera).chance(probability)
            }
        )
        for record in records
    ]
