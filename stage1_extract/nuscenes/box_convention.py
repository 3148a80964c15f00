"""The convention of an info file's boxes: recognised from the boxes themselves, or asked for.

mmdet3d < 1.0 wrote (x, y, z, width, length, height, -yaw - pi / 2), mmdet3d >= 1.0 writes
(x, y, z, length, width, height, yaw); both with the centre's z, both in the LiDAR frame, and
neither says which it is. Two facts tell them apart: vehicles are longer than wide, and moving
vehicles head where they go. The first decides, the second must not contradict it.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from shared.errors import DatasetError
from stage1_extract.nuscenes.annotations import BoxTable

BoxConvention = Literal["mmdet3d<1.0", "mmdet3d>=1.0"]
CONVENTIONS: tuple[BoxConvention, ...] = ("mmdet3d<1.0", "mmdet3d>=1.0")
OLD, NEW = CONVENTIONS

# Always longer than wide; not the barrier (wider than long), the cone or the pedestrian (either).
ELONGATED = ("car", "truck", "bus", "trailer", "motorcycle", "bicycle")
FEWEST_BOXES = 3  # a single mislabelled box must not decide
AGREEING = 0.9  # share of boxes that must agree; real files: 1.0
MOVING_M_S = 2.0  # below, the velocity of a parked vehicle is annotation noise
# By how much the other convention may fit the velocities better; real files: -0.4 to -1.0.
CONTRADICTION = 0.2


def recognise(tables: Iterable[BoxTable], source: str) -> BoxConvention:
    """Return the convention that a file's boxes are in.

    Args:
        tables: the boxes of all frames, columns as stored.
        source: the file the boxes come from, for messages.

    Raises:
        DatasetError: if there are too few vehicles to tell, or sizes and headings disagree.
    """
    names: list[str] = []
    stacked = []
    for table in tables:
        names.extend(table.names)
        stacked.append(table.boxes_lidar)
    boxes = np.concatenate(stacked)[np.isin(np.array(names, dtype=str), ELONGATED)]
    ask = f'say which with --box-convention "{OLD}" (CMT\'s own info files) or "{NEW}"'
    if len(boxes) < FEWEST_BOXES:
        raise DatasetError(
            f"{source}: the box convention cannot be recognised from {len(boxes)} vehicles "
            f"(at least {FEWEST_BOXES} are needed); {ask}"
        )
    longer_first = float((boxes[:, 3] > boxes[:, 4]).mean())
    if 1 - AGREEING < longer_first < AGREEING:
        raise DatasetError(
            f"{source}: the box convention cannot be recognised: of {len(boxes)} vehicles "
            f"{longer_first:.0%} have the larger size first; {ask}"
        )
    recognised, rejected = (NEW, OLD) if longer_first >= AGREEING else (OLD, NEW)
    fit, rejected_fit = _heading_fit(boxes, recognised), _heading_fit(boxes, rejected)
    if rejected_fit - fit > CONTRADICTION:
        raise DatasetError(
            f"{source}: box sizes are those of {recognised}, but the headings of moving vehicles "
            f"fit {rejected} (mean |cos| to the velocity {rejected_fit:.2f} against {fit:.2f}); "
            "the file is only half converted, so create it again with a single version of mmdet3d"
        )
    return recognised


def to_new(table: BoxTable, convention: BoxConvention) -> BoxTable:
    """Return boxes with the columns of `Annotations`: length, width, height, yaw."""
    if convention == NEW:
        return table
    boxes = table.boxes_lidar.copy()
    boxes[:, 3], boxes[:, 4] = table.boxes_lidar[:, 4], table.boxes_lidar[:, 3]
    boxes[:, 6] = _yaw_rad(table.boxes_lidar, convention)
    return replace(table, boxes_lidar=boxes)


def _yaw_rad(boxes: NDArray[np.float64], convention: BoxConvention) -> NDArray[np.float64]:
    yaw_rad: NDArray[np.float64] = boxes[:, 6] if convention == NEW else -boxes[:, 6] - np.pi / 2
    return yaw_rad


def _heading_fit(boxes: NDArray[np.float64], convention: BoxConvention) -> float:
    """Return the mean |cos| between heading and velocity of moving boxes; 1 without any."""
    speed_m_s = np.hypot(boxes[:, 7], boxes[:, 8])
    moving = speed_m_s > MOVING_M_S  # False for NaN
    if int(moving.sum()) < FEWEST_BOXES:
        return 1.0
    course_rad = np.arctan2(boxes[moving, 8], boxes[moving, 7])
    return float(np.abs(np.cos(_yaw_rad(boxes[moving], convention) - course_rad)).mean())
