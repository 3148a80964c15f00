"""Objects that return no points: everything inside their boxes is removed, in sweeps as well.

The keyframe's boxes are applied to the merged points, so trails that moving objects left in old
sweeps outside their box remain, as in the source. P points, n boxes.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shared.config.classes import LIDAR
from stage1_extract.conditions.condition import Condition, Points
from stage1_extract.conditions.draw import Draw
from stage1_extract.conditions.sample_edits import COMPUTED, SampleEdits
from stage1_extract.nuscenes.records import SampleRecord

Boxes = NDArray[np.float32]


def points_in_boxes(points: Points, boxes_lidar: Boxes) -> NDArray[np.bool_]:
    """Return (P,) bool, True for points inside any box or on its surface.

    Args:
        points: (P, 5) float32, LiDAR frame, metres.
        boxes_lidar: (n, 9), see `shared.data.features.Annotations`.
    """
    inside = np.zeros(len(points), np.bool_)
    order = np.argsort(points[:, 0], kind="stable")
    sorted_x = points[order, 0].astype(np.float64)
    for box in boxes_lidar.astype(np.float64):
        reach_m = np.hypot(box[3], box[4]) / 2
        first = np.searchsorted(sorted_x, box[0] - reach_m, side="left")
        near = order[first : np.searchsorted(sorted_x, box[0] + reach_m, side="right")]
        offset = points[near, :3] - box[:3]
        cosine, sine = np.cos(box[6]), np.sin(box[6])
        along = offset[:, 0] * cosine + offset[:, 1] * sine
        across = offset[:, 1] * cosine - offset[:, 0] * sine
        local = np.abs(np.stack([along, across, offset[:, 2]], axis=1))
        inside[near[(local <= box[3:6] / 2).all(axis=1)]] = True
    return inside


def remove_objects(points: Points, record: SampleRecord, draw: Draw, rate: float) -> Points:
    """Remove the points inside some of a sample's boxes.

    Args:
        points: (P, 5) float32, merged.
        record: with boxes of all categories.
        draw: a number per box; the same for every rate.
        rate: probability that an object fails.
    """
    fails = failing_boxes(record, draw, rate)
    remaining: Points = points[~points_in_boxes(points, record.annotations.boxes_lidar[fails])]
    return remaining


def failing_boxes(record: SampleRecord, draw: Draw, rate: float) -> NDArray[np.bool_]:
    """Return (n,) bool: boxes that hold points, as nuScenes counted them, and fail."""
    counts = record.annotations.lidar_points
    failing: NDArray[np.bool_] = (draw.uniform(len(counts)) < rate) & (counts > 0)
    return failing


def samples_with_failing_boxes(
    records: Sequence[SampleRecord], condition: Condition
) -> list[SampleEdits]:
    """Touch the samples in which at least a single object fails, at the condition's `rate`."""
    rate = condition.parameters["rate"]
    return [
        _touched_if(failing_boxes(record, condition.draw(record.token, LIDAR), rate).any())
        for record in records
    ]


def samples_that_fail(records: Sequence[SampleRecord], condition: Condition) -> list[SampleEdits]:
    """Touch every sample with the condition's `sample_probability`; in it, all objects fail."""
    probability = condition.parameters["sample_probability"]
    return [
        _touched_if(condition.draw(record.token, LIDAR).chance(probability)) for record in records
    ]


def _touched_if(touched: bool | np.bool_) -> SampleEdits:
    return SampleEdits(lidar=COMPUTED if touched else None)
