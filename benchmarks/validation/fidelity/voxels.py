"""Fidelity of the voxels: coordinates, order, points, what the sparse encoder drops, and means."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from mmcv.ops import Voxelization
from mmdet3d.datasets.transforms import PointsRangeFilter
from mmdet3d.models.data_preprocessors.voxelize import VoxelizationByGridShape
from mmdet3d.models.voxel_encoders import HardSimpleVFE
from mmdet3d.structures import LiDARPoints
from numpy.typing import ArrayLike, NDArray

from benchmarks.validation.fidelity.numpy_voxels import numpy_voxels
from benchmarks.validation.fidelity.points import SWEEPS, mmdet3d_sweeps
from benchmarks.validation.fidelity.rows import PRESETS, Gap, RealFrame, Row, counted
from shared.config.preset import PointGrid, Preset
from shared.data.targets import trainable_annotations
from stage1_extract.backbones.mmcv_ops import has_compiled_ops
from stage1_extract.preprocessing.sweeps import COLUMNS, load_points
from stage1_extract.preprocessing.voxels import GroupedPoints, Voxelizer, mean_points

TRAINING_VOXELS = 120_000


def voxels_of(preset: Preset, points: NDArray[np.float32]) -> GroupedPoints:
    """Group points as stage 1 does."""
    assert preset.lidar is not None
    return Voxelizer(preset.grid, preset.lidar).group(torch.from_numpy(points))


def _other_voxelizers(
    preset: Preset,
) -> dict[str, Callable[[NDArray[np.float32]], Sequence[ArrayLike]]]:
    """Return the voxelisers of the packages by name, or a twin where mmcv has no compiled ops."""
    assert preset.lidar is not None
    kwargs: dict[str, Any] = {
        "voxel_size": list(preset.grid.voxel_m),
        "point_cloud_range": list(preset.grid.point_range_m),
        "max_num_points": preset.lidar.max_points_per_voxel,
    }
    if not has_compiled_ops():
        kwargs["max_voxels"] = preset.lidar.max_voxels
        return {"NumPy twin of mmcv's hard_voxelize": partial(numpy_voxels, **kwargs)}
    kwargs["max_voxels"] = (TRAINING_VOXELS, preset.lidar.max_voxels)
    modules = {
        "mmdet3d VoxelizationByGridShape": VoxelizationByGridShape(**kwargs).eval(),
        "mmcv Voxelization": Voxelization(**kwargs).eval(),
    }
    return {
        name: lambda points, module=module: module(torch.from_numpy(points))
        for name, module in modules.items()
    }


def voxelising(frames: Sequence[RealFrame]) -> Iterator[Row]:
    """Compare voxels in their order, and the voxel of each point in float64."""
    gaps: defaultdict[tuple[str, str], Gap] = defaultdict(Gap)
    for preset in PRESETS:
        for against, other in _other_voxelizers(preset).items():
            for frame in frames:
                points = load_points(frame.record, SWEEPS)
                voxels = voxels_of(preset, points)
                kept, coordinates, counts = other(points)
                gaps[against, "z y x of a voxel, in order"].add(voxels.coordinates, coordinates)
                gaps[against, "points in a voxel"].add(voxels.counts, counts)
                gaps[against, "those points, 5 columns"].add(voxels.points, kept)
    for (against, what), gap in gaps.items():
        remark = "both presets; on a CPU (on a GPU the order may differ)"
        yield gap.row("voxels", "Voxelizer", against, what, remark)
    for preset in PRESETS:
        yield from _points_of_voxels(frames, preset, f"Voxelizer, {preset.name}")
        yield _misplaced_voxels(frames, preset, f"Voxelizer, {preset.name}")


def _points_of_voxels(frames: Sequence[RealFrame], preset: Preset, ours: str) -> Iterator[Row]:
    moved, dropped, filtered, inside, of = 0, 0, 0, 0, 0
    for frame in frames:
        points = load_points(frame.record, SWEEPS)
        cells = [_cells(points, preset.grid, dtype) for dtype in (np.float32, np.float64)]
        moved += int((cells[0] != cells[1]).any(axis=1).sum())
        within = ((cells[0] >= 0) & (cells[0] < preset.grid.range_voxels[::-1])).all(axis=1)
        kept = int(voxels_of(preset, points).counts.sum())
        ranged = PointsRangeFilter(list(preset.grid.point_range_m))
        cloud = LiDARPoints(torch.from_numpy(points), points_dim=COLUMNS)
        remaining = len(ranged({"points": cloud})["points"])
        of += len(points)
        inside += int(within.sum())
        dropped += int(within.sum()) - kept
        filtered += abs(int(within.sum()) - remaining)
    step, what = "voxels", "points in another voxel"
    yield counted(step, ours, "the same division in float64", what, moved, of, "float32, official")
    against, what = "mmdet3d PointsRangeFilter", "points on the border"
    remark = "voxeliser [min, max), filter (min, max); testing does not filter"
    yield counted(step, ours, against, what, filtered, inside, remark)
    remark = "only the first ten of a voxel count, as official"
    yield counted(step, ours, "all points in range", "points left out", dropped, inside, remark)


def _misplaced_voxels(frames: Sequence[RealFrame], preset: Preset, ours: str) -> Row:
    """Count the voxels that only one of two clouds occupies."""
    changed, of = 0, 0
    for record in (frame.record for frame in frames if frame.record.sweeps):
        clouds = (load_points(record, SWEEPS), mmdet3d_sweeps(record, repaired=False))
        left, right = (
            {tuple(row) for row in voxels_of(preset, cloud).coordinates.tolist()}
            for cloud in clouds
        )
        changed, of = changed + len(left ^ right), of + len(left)
    against, what = "mmdet3d LoadPointsFromMultiSweeps before it", "voxels in one of the two only"
    remark = "what R^T t comes to, with two sweeps; a share of ours"
    return counted("voxels", ours, against, what, changed, of, remark)


def _cells(points: NDArray[np.float32], grid: PointGrid, dtype: Any) -> NDArray[np.int64]:
    low, edge = np.array(grid.point_range_m[:3], dtype), np.array(grid.voxel_m, dtype)
    cells: NDArray[np.int64] = np.floor((points[:, :3].astype(dtype) - low) / edge).astype(np.int64)
    return cells


def sparse_shape(frames: Sequence[RealFrame]) -> Iterator[Row]:
    """Count what lies beyond the grid that the sparse encoder is told of."""
    for preset in PRESETS:
        grid = preset.grid
        shape, edge_m = np.array(grid.sparse_shape), grid.voxel_m[0]
        border_m = grid.point_range_m[0] + edge_m * grid.sparse_shape[2]
        beyond, of, far, boxes, highest = 0, 0, 0, 0, 0
        for frame in frames:
            voxels = voxels_of(preset, load_points(frame.record, SWEEPS)).coordinates.numpy()
            beyond, of = beyond + int((voxels >= shape).any(axis=1).sum()), of + len(voxels)
            highest = max(highest, int(voxels[:, 1:].max()))
            centres = trainable_annotations(frame.record.annotations, grid).boxes_lidar[:, :2]
            far, boxes = far + int((centres >= border_m).any(axis=1).sum()), boxes + len(centres)
        remark = f"grid ends at x, y = {border_m:.1f} m, range at {grid.point_range_m[3]:g} m; "
        remark += f"highest index {highest}, {far} of {boxes} trainable boxes lie beyond"
        sides = (f"Voxelizer, {preset.name}", f"sparse_shape {grid.sparse_shape}")
        yield counted("sparse grid", *sides, "voxels with an index beyond it", beyond, of, remark)


def averaging(frames: Sequence[RealFrame]) -> Iterator[Row]:
    """Compare the mean of a voxel's points, float32, with mmdet3d's and with float64."""
    encoder, step = HardSimpleVFE(num_features=COLUMNS), "voxel means"
    for preset in PRESETS:
        official, exact = Gap(), Gap()
        for frame in frames:
            voxels = voxels_of(preset, load_points(frame.record, SWEEPS))
            ours = mean_points(voxels)
            official.add(ours, encoder(voxels.points, voxels.counts, voxels.coordinates))
            exact.add(ours, voxels.points.double().sum(dim=1) / voxels.counts[:, None])
        name, what = f"mean_points, {preset.name}", "x y z (m), intensity, lag (s)"
        yield official.row(step, name, "mmdet3d HardSimpleVFE", what, "the same operations")
        remark = "float32 rounding of intensities up to 255"
        yield exact.row(step, name, "the mean in float64", what, remark)
