"""What the numbers of a frame must be, whatever file they come from: times, poses, lenses, boxes.

The limits separate kinds of mistakes (another unit, a zeroed or transposed matrix), not good
measurements from bad: every real frame is far inside, see docs/inputs.md.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from shared.config.preset import MAX_SWEEPS
from shared.errors import DatasetError
from stage1_extract.nuscenes.annotations import BoxTable
from stage1_extract.nuscenes.records import Camera, SampleRecord, Sweep

# A time in any other unit is a thousand times smaller or larger, far outside these years.
YEAR_2000_S, YEAR_2100_S = 946_684_800, 4_102_444_800
PER_SECOND = {"seconds": 1, "milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}

# The LiDAR turns 20 times a second, so ten sweeps span half a second. Real frames: 0.047 to 0.55 s.
SHORTEST_LAG_S, LONGEST_LAG_S = 0.01, 2.0
ROTATION_ERROR = 1e-3  # of R @ R.T against 1; real float32 matrices: up to 7.5e-8
FARTHEST_SENSOR_M = 100.0  # from the keyframe's LiDAR; real: cameras 1.02, sweeps 4.5
SHORTEST_FOCAL_PX = 10.0  # real: 797 and more; lenses in units of the image width are below 2
LAST_ROW_ERROR = 1e-6  # of 0, 0, 1; real: 0
LARGEST_M = 100.0  # a side of a box; real: 14.5
FARTHEST_BOX_M = 500.0  # from the LiDAR; real: 106, and city coordinates are kilometres

REMEDY = "Create the info file or unpack the tables again"


def require_time(time: float, unit: Literal["seconds", "microseconds"], what: str) -> None:
    """Refuse a time that is not in this unit since 1970.

    Raises:
        DatasetError: naming `what`, and the unit in which the time would be plausible.
    """
    factor = PER_SECOND[unit]
    if YEAR_2000_S * factor <= time < YEAR_2100_S * factor:
        return
    units = [
        name for name, per_s in PER_SECOND.items() if YEAR_2000_S <= time / per_s < YEAR_2100_S
    ]
    guess = f"it looks like {units[0]}" if units else "it is no time of this century in any unit"
    raise DatasetError(
        f"{what} {time!r} is not in {unit} since 1970, as expected here; {guess}. {REMEDY}"
    )


def checked_record(record: SampleRecord) -> SampleRecord:
    """Return a record whose times, poses and intrinsics are plausible.

    Raises:
        DatasetError: naming the sweep or camera and the number; the reader adds file and frame.
    """
    _check_times(record)
    _check_poses(record)
    for camera in record.cameras:
        _check_intrinsics(camera)
    return record


def checked_boxes(table: BoxTable) -> BoxTable:
    """Return boxes that have a place, a size and a heading; velocities may be unknown (NaN).

    Raises:
        DatasetError: naming the first box that does not; the reader adds file and frame.
    """
    boxes = table.boxes_lidar
    rules = (
        (np.abs(boxes[:, :3]) <= FARTHEST_BOX_M, f"centre within {FARTHEST_BOX_M:g} m", slice(3)),
        (
            (boxes[:, 3:6] > 0) & (boxes[:, 3:6] <= LARGEST_M),
            f"sizes above 0 and up to {LARGEST_M:g} m",
            slice(3, 6),
        ),
        (np.isfinite(boxes[:, 6:7]), "a yaw in radians", slice(6, 7)),
        (~np.isinf(boxes[:, 7:]), "velocities in m/s, or NaN", slice(7, 9)),
    )
    for good, expected, columns in rules:
        good_boxes = good.all(axis=1)
        if not good_boxes.all():
            first = int(good_boxes.argmin())
            numbers = ", ".join(f"{value:g}" for value in boxes[first, columns])
            raise DatasetError(
                f"{int((~good_boxes).sum())} of {len(boxes)} boxes are impossible, the first is "
                f"box {first} ({table.names[first]}): expected {expected}, got {numbers}. Remove "
                f"or correct it. {REMEDY}"
            )
    return table


def _check_times(record: SampleRecord) -> None:
    require_time(record.timestamp_us, "microseconds", "timestamp")
    previous_us = record.timestamp_us
    for number, sweep in enumerate(record.sweeps[:MAX_SWEEPS]):
        what = f"sweep {number} ({record.relative(sweep.file)})"
        require_time(sweep.timestamp_us, "microseconds", f"{what}: timestamp")
        lag_s = (record.timestamp_us - sweep.timestamp_us) / 1e6
        if not SHORTEST_LAG_S <= lag_s <= LONGEST_LAG_S:
            where = f"{lag_s:g} s before" if lag_s >= 0 else f"{-lag_s:g} s after"
            raise DatasetError(
                f"{what} was taken {where} the keyframe; expected {SHORTEST_LAG_S:g} to "
                f"{LONGEST_LAG_S:g} s before it, since ten sweeps span half a second. Its time is "
                f"wrong or it belongs to another frame. {REMEDY}"
            )
        if sweep.timestamp_us > previous_us:
            raise DatasetError(
                f"{what} is newer than the sweep listed before it; expected the newest first, "
                f"since the first ones are used. Sort them. {REMEDY}"
            )
        previous_us = sweep.timestamp_us


def _check_poses(record: SampleRecord) -> None:
    """Require rotations to be rotations and sensors to be on the car, or where it just was."""
    lidar, ego = record.ego_from_lidar, record.global_from_ego
    names = ["LiDAR to ego", "ego to global"]
    names += [f"camera {camera.name} to LiDAR" for camera in record.cameras]
    names += [f"sweep {number} to LiDAR" for number in range(len(record.sweeps))]
    sensors: tuple[Camera | Sweep, ...] = (*record.cameras, *record.sweeps)
    rotations = np.stack([lidar[:3, :3], ego[:3, :3], *(sensor.rotation for sensor in sensors)])
    errors = np.abs(rotations @ rotations.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2))
    good = (errors <= ROTATION_ERROR) & (np.linalg.det(rotations) > 0)
    if not good.all():
        first = int(good.argmin())
        mirrors = errors[first] <= ROTATION_ERROR
        fault = "mirrors" if mirrors else f"differs from 1 in R R^T by {errors[first]:.2g}"
        raise DatasetError(
            f"{names[first]}: expected a rotation (within {ROTATION_ERROR:g}), got "
            f"{_matrix_text(rotations[first])}, which {fault}. {REMEDY}"
        )
    del names[1]  # a city is larger
    places_m = np.stack([lidar[:3, 3], *(sensor.translation_m for sensor in sensors)])
    near = (np.abs(places_m) <= FARTHEST_SENSOR_M).all(axis=1)
    if not near.all():
        first = int(near.argmin())
        raise DatasetError(
            f"{names[first]}: expected a translation within {FARTHEST_SENSOR_M:g} m, got "
            f"{places_m[first].tolist()}. {REMEDY}"
        )
    if not np.isfinite(ego).all():
        raise DatasetError(f"ego to global: the translation is {ego[:3, 3].tolist()}. {REMEDY}")


def _check_intrinsics(camera: Camera) -> None:
    matrix = camera.intrinsics
    focal_px = matrix[[0, 1], [0, 1]]
    last_row_error = np.abs(matrix[2] - (0, 0, 1)).max()
    good = (focal_px >= SHORTEST_FOCAL_PX).all() and last_row_error <= LAST_ROW_ERROR
    if not (good and np.isfinite(matrix).all() and np.linalg.det(matrix) > 0):
        raise DatasetError(
            f"camera {camera.name}: expected intrinsics with focal lengths of at least "
            f"{SHORTEST_FOCAL_PX:g} px on the diagonal and the last row 0, 0, 1, got "
            f"{_matrix_text(matrix)}. {REMEDY}"
        )


def _matrix_text(matrix: NDArray[np.float64]) -> str:
    return str(np.round(matrix, 4).tolist())
