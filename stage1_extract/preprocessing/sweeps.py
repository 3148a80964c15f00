"""The points of a frame: the keyframe and its previous sweeps, in the keyframe's LiDAR frame."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.errors import DatasetError
from stage1_extract.conditions.apply_condition import SampleChanges
from stage1_extract.nuscenes.records import SampleRecord, Sweep, naming_sample
from stage1_extract.preprocessing.point_checks import require_plausible, what_points_are

CLOSE_M = 1.0  # sweep points nearer than this in x and in y are the ego vehicle's

COLUMNS = 5  # x, y, z, intensity, and ring index (in the file) or time lag (as returned)
POINT_BYTES = 4 * COLUMNS


def load_points(
    record: SampleRecord,
    sweeps: int,
    *,
    drop_close_points: bool = False,
    pad_without_sweeps: bool = False,
    read: Callable[[Path], bytes] = Path.read_bytes,
    changes: SampleChanges | None = None,
) -> NDArray[np.float32]:
    """Return the merged point cloud.

    Upstream: intensity is not scaled and nothing is dropped outside the range (the voxeliser does
    that). If there are more sweeps than asked for, the newest are used; official CMT draws some at
    random, but its info files never list more than it asks for.

    Args:
        record: the frame.
        sweeps: how many previous sweeps to merge at most, newest first.
        drop_close_points: leave out sweep points within 1 m of the sensor in x and in y.
        pad_without_sweeps: repeat a keyframe that has no sweeps `sweeps` times.
        read: reads a file.
        changes: what a condition does to the sample; None leaves it as recorded.

    Returns:
        (P, 5) float32: x y z (metres, keyframe LiDAR frame), intensity 0..255, time lag in seconds
        (0 for the keyframe, positive for the past); keyframe first, then the sweeps.

    Raises:
        DatasetError: naming the sample, if a file is missing, truncated or not plausible.
        ConfigError: if a function of the condition returns something that is not points.

    Source: mmdet3d 1.0.0rc5, `LoadPointsFromFile` and `LoadPointsFromMultiSweeps`. mmdet3d 1.4 adds
    R^T t instead of t, which is 8 to 11 cm off at 0.5 s.
    """
    keyframe, *earlier = _raw_files(record, sweeps, read, changes)
    if pad_without_sweeps and not record.sweeps:
        earlier = [keyframe] * sweeps
    if drop_close_points:
        earlier = [without_close_points(points) for points in earlier]
    joined = np.concatenate([keyframe, *earlier])
    joined[:, 4] = 0
    end = len(keyframe)
    for sweep, points in zip(record.sweeps, earlier, strict=False):
        begin, end = end, end + len(points)
        _move(joined[begin:end], sweep)
        joined[begin:end, 4] = record.lag_s(sweep)
    return joined if changes is None else changes.merged_points(joined)


def _move(points: NDArray[np.float32], sweep: Sweep) -> None:
    """Move the points of a sweep to the keyframe's frame, in place; (P, 5) float32.

    Upstream: two roundings, of the product and of the sum; both are computed in float64. Column by
    column, since NumPy needs as long for three numbers of a row as for a hundred of a column; not
    by BLAS, which is slower here and adds in an order of its own on every kind of processor.
    """
    x, y, z = points.T[:3].astype(np.float64, order="C")
    for axis, ((of_x, of_y, of_z), shift_m) in enumerate(
        zip(sweep.rotation, sweep.translation_m, strict=True)
    ):
        turned = of_x * x
        turned += of_y * y
        turned += of_z * z
        points[:, axis] = turned.astype(np.float32).astype(np.float64) + shift_m


def without_close_points(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Leave out points in a 2 m square around the sensor that took them; (P, 5) float32."""
    far = (np.abs(points[:, :2]) >= CLOSE_M).any(axis=1)
    remaining: NDArray[np.float32] = points[far]
    return remaining


def read_points(file: Path, read: Callable[[Path], bytes] = Path.read_bytes) -> NDArray[np.float32]:
    """Return a .pcd.bin as (P, 5) float32: x y z in metres, intensity, ring index.

    Args:
        file: of little-endian float32.
        read: reads it.

    Raises:
        DatasetError: if the file is missing, truncated, or holds points that the sensor cannot
            have written (see `point_checks`).
    """
    try:
        values = np.frombuffer(read(file), dtype=np.uint8)
    except OSError as fault:
        raise DatasetError(
            f"LiDAR file {file} cannot be read ({fault.strerror}); unpack it again, or restrict "
            "the samples to what exists (--existing-only)"
        ) from fault
    if not values.size or values.size % POINT_BYTES:
        raise DatasetError(
            f"LiDAR file {file} has {values.size} bytes, which is not a positive multiple of "
            f"{POINT_BYTES} (five float32 a point): {what_points_are(values, file)}"
        )
    points: NDArray[np.float32] = values.view("<f4").astype(np.float32).reshape(-1, COLUMNS)
    require_plausible(points, file)
    return points


def _raw_files(
    record: SampleRecord,
    sweeps: int,
    read: Callable[[Path], bytes],
    changes: SampleChanges | None,
) -> list[NDArray[np.float32]]:
    """Return the points of the keyframe and of its sweeps, each in its own sensor's frame."""
    files = [record.lidar_file, *(sweep.file for sweep in record.sweeps[:sweeps])]
    with naming_sample(record):
        recorded = [read_points(file, read) for file in files]
    if changes is None:
        return recorded
    return [changes.lidar_file(points, file) for points, file in zip(recorded, files, strict=True)]
