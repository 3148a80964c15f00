"""Which of a frame's annotations the official training pipeline trains on.

n boxes of a frame.
"""

import dataclasses

import numpy as np

from shared.config.preset import PointGrid
from shared.data.features import Annotations, FrameFeatures


def trainable_annotations(annotations: Annotations, grid: PointGrid) -> Annotations:
    """Keep the boxes CMT trains on, with finite velocities and yaws in [-pi, pi).

    Source:
        mmdet3d 1.0.0rc5, nuscenes_dataset.py `get_ann_info` (a box needs a LiDAR point; NaN
        velocity becomes 0) and ObjectRangeFilter, ObjectNameFilter (centre strictly inside the
        range in x and y; z is not tested; one of the ten classes).
    """
    boxes = annotations.boxes_lidar
    x_min, y_min, _, x_max, y_max, _ = grid.point_range_m
    keep = (
        (annotations.lidar_points > 0)
        & (annotations.labels >= 0)
        & (boxes[:, 0] > x_min)
        & (boxes[:, 0] < x_max)
        & (boxes[:, 1] > y_min)
        & (boxes[:, 1] < y_max)
    )
    boxes = boxes[keep].copy()  # (n, 9)
    turns = np.floor(boxes[:, 6] / (2 * np.pi) + 0.5).astype(np.float32)
    boxes[:, 6] -= turns * np.float32(2 * np.pi)
    boxes[:, 7:] = np.nan_to_num(boxes[:, 7:])
    return Annotations(
        boxes_lidar=boxes,
        labels=annotations.labels[keep],
        lidar_points=annotations.lidar_points[keep],
        radar_points=annotations.radar_points[keep],
    )


def with_trainable_annotations(features: FrameFeatures, grid: PointGrid) -> FrameFeatures:
    """Return the frame with only the annotations that CMT trains on."""
    annotations = trainable_annotations(features.frame.annotations, grid)
    frame = dataclasses.replace(features.frame, annotations=annotations)
    return dataclasses.replace(features, frame=frame)
