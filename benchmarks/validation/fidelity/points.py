"""Fidelity of the points: reading a file, and merging sweeps."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from mmdet3d.datasets.transforms import LoadPointsFromFile, LoadPointsFromMultiSweeps
from numpy.typing import NDArray
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.data_classes import LidarPointCloud

from benchmarks.validation.fidelity.rows import Gap, RealFrame, Row, gap_of
from stage1_extract.nuscenes.records import SampleRecord
from stage1_extract.preprocessing.sweeps import COLUMNS, load_points, read_points

SWEEPS = 10


def _keyframe(record: SampleRecord) -> dict[str, Any]:
    load = LoadPointsFromFile(coord_type="LIDAR", load_dim=COLUMNS, use_dim=COLUMNS)
    results: dict[str, Any] = load({"lidar_points": {"lidar_path": str(record.lidar_file)}})
    return results


def reading(frames: Sequence[RealFrame]) -> Iterator[Row]:
    """Compare the values of a LiDAR file."""
    gap = Gap()
    for frame in frames:
        theirs = _keyframe(frame.record)["points"].tensor
        gap.add(read_points(frame.record.lidar_file), theirs)
    remark = "intensity 0..255 is not scaled on either side"
    against = "mmdet3d LoadPointsFromFile"
    yield gap.row("LiDAR file", "read_points", against, "x y z, intensity, ring", remark)


def mmdet3d_sweeps(
    record: SampleRecord, *, repaired: bool, options: Mapping[str, bool] | None = None
) -> NDArray[np.float32]:
    """Return the (P, 5) points of mmdet3d's LoadPointsFromMultiSweeps.

    Args:
        record: the frame.
        repaired: pass -t as the translation, which the loader then subtracts, instead of -R^T t
            as in mmdet3d's info files.
        options: of the loader, besides those that CMT sets.
    """
    sweeps = []
    for sweep in record.sweeps:
        matrix = np.eye(4)
        matrix[:3, :3] = sweep.rotation.T
        turned = sweep.translation_m if repaired else sweep.rotation.T @ sweep.translation_m
        matrix[:3, 3] = -turned
        points = {
            "lidar_path": str(sweep.file),
            "lidar2sensor": matrix.astype(np.float32).tolist(),  # as update_infos_to_v2.py
        }
        sweeps.append({"timestamp": sweep.timestamp_us / 1e6, "lidar_points": points})
    load = LoadPointsFromMultiSweeps(SWEEPS, use_dim=list(range(COLUMNS)), **(options or {}))
    results = _keyframe(record) | {"timestamp": record.timestamp_us / 1e6}
    if sweeps:  # mmdet3d's info files omit the key in a scene's first frame
        results["lidar_sweeps"] = sweeps
    return np.asarray(load(results)["points"].tensor.numpy())


def merging_sweeps(frames: Sequence[RealFrame]) -> Iterator[Row]:
    """Compare the positions of each sweep's points, and their time lag."""
    lags, keyframes = Gap(), Gap()
    loader, what = "mmdet3d LoadPointsFromMultiSweeps", "distance (m)"
    for frame in frames:
        record = frame.record
        ours = load_points(record, SWEEPS)
        as_is, repaired = (mmdet3d_sweeps(record, repaired=fix) for fix in (False, True))
        lags.add(ours[:, 4], as_is[:, 4])
        keyframes.add(ours[ours[:, 4] == 0], as_is[ours[:, 4] == 0])
        for sweep in record.sweeps:
            here = ours[:, 4] == record.lag_s(sweep)
            name = f"load_points, lag {record.lag_s(sweep):.3f} s"
            gap = _distance_m(ours[here], as_is[here])
            yield gap.row("sweeps", name, loader, what, "adds R^T t instead of t")
            gap = _distance_m(ours[here], repaired[here])
            remark = "t is its only fault; float32 transform"
            yield gap.row("sweeps", name, f"{loader}, given -t", what, remark)
    columns = "x y z (m), intensity, lag (s)"
    yield keyframes.row(
        "sweeps", "load_points, keyframe", loader, columns, "its ring index becomes 0"
    )
    yield lags.row(
        "sweeps", "load_points, time lag", loader, "lag (s)", "all points of both frames"
    )
    yield _with_options(frames)
    yield _devkit_sweep(frames[0].record)


def _distance_m(left: NDArray[Any], right: NDArray[Any]) -> Gap:
    moved = left[:, :3].astype(np.float64) - right[:, :3]
    return gap_of(np.linalg.norm(moved, axis=1), np.zeros(len(moved)))


def _with_options(frames: Sequence[RealFrame]) -> Row:
    """Compare with options that the configs of other detectors set."""
    gap = Gap()
    for frame in frames:
        ours = load_points(frame.record, SWEEPS, drop_close_points=True, pad_without_sweeps=True)
        options = {"remove_close": True, "pad_empty_sweeps": True}
        theirs = mmdet3d_sweeps(frame.record, repaired=True, options=options)
        gap.add(ours, theirs)
    name = "load_points, dropping and padding"
    against = "the same, remove_close and pad_empty_sweeps"
    what = "x y z (m), intensity, lag (s)"
    return gap.row("sweeps", name, against, what, "off in CMT, on in BEVFusion; both frames")


def _devkit_sweep(record: SampleRecord) -> Row:
    """Compare with nuscenes-devkit, which follows the tables; only the newest sweep."""
    tables = NuScenes("v1.0-mini", str(record.root), verbose=False)
    sample = tables.get("sample", record.token)
    cloud, times_s = LidarPointCloud.from_file_multisweep(
        tables, sample, "LIDAR_TOP", "LIDAR_TOP", nsweeps=2, min_distance=0.0
    )
    newest = times_s[0] > 0
    ours = load_points(record, 1)[newest]
    gap = _distance_m(ours, cloud.points.T[newest])
    name = f"load_points, lag {record.lag_s(record.sweeps[0]):.3f} s"
    against = "nuscenes-devkit from_file_multisweep"
    remark = "the devkit agrees with ours; it keeps points in float32 between steps"
    return gap.row("sweeps", name, against, "distance (m)", remark)
