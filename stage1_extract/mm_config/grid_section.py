"""The grid of a config: range, voxels and cells, which it states in several places."""

from collections.abc import Callable
from functools import partial

from shared.config.preset import LIDAR_STRIDES, PointGrid
from stage1_extract.mm_config.config_reader import Section
from stage1_extract.mm_config.sections import ConfigSections

STRIDE = LIDAR_STRIDES[0]


def read_grid(
    parts: ConfigSections, voxels: Section | None, encoder: Section | None
) -> Callable[[], PointGrid]:
    """Read range, voxel size and sparse shape, and check that all places agree.

    Args:
        parts: of the config.
        voxels: the voxel layer, or None without LiDAR.
        encoder: `pts_middle_encoder`, or None without LiDAR.

    Returns:
        What makes the grid; to be called only when there is no fault.
    """
    range_m = _read_range(parts, voxels)
    voxel_m, voxel_path = _read_voxel(parts.train if voxels is None else voxels)
    if voxels is not None:
        parts.train.expect("voxel_size", voxel_m, of=voxel_path)
    sparse_shape, cells_path = _read_shape(parts, encoder)
    parts.head.fixed({"downsample_scale": STRIDE})
    parts.train.expect("out_size_factor", STRIDE, of=parts.head.at("downsample_scale"))
    if parts.test is not None:
        # The official LiDAR config gives x and y alone; nothing reads them.
        parts.test.expect("voxel_size", voxel_m, voxel_m[:2], of=voxel_path)
        parts.test.expect("out_size_factor", STRIDE, of=parts.head.at("downsample_scale"))
        _expect_cells(parts.test, sparse_shape, cells_path)
    x_min, y_min, z_min, x_max, y_max, z_max = range_m
    return partial(
        PointGrid,
        point_range_m=(x_min, y_min, z_min, x_max, y_max, z_max),
        voxel_m=voxel_m,
        sparse_shape=sparse_shape,
        stride=STRIDE,
    )


def _read_range(parts: ConfigSections, voxels: Section | None) -> tuple[float, ...]:
    """Return the range that the head computes with; the other places must agree with it."""
    range_m, path = parts.coder.numbers("pc_range", 6), parts.coder.at("pc_range")
    parts.assigner.expect("pc_range", range_m, of=path)
    parts.train.expect("point_cloud_range", range_m, of=path)
    if parts.test is not None:
        # The official LiDAR config gives the first two alone; nothing reads them.
        parts.test.expect("pc_range", range_m, range_m[:2], of=path)
    if "PointsRangeFilter" in parts.steps:
        step = parts.steps["PointsRangeFilter"]
        step.expect("point_cloud_range", range_m, of=path, required=True)
    if voxels is not None:
        voxels.expect("point_cloud_range", range_m, of=path, required=True)
    return range_m


def _read_voxel(section: Section) -> tuple[tuple[float, float, float], str]:
    x, y, z = section.numbers("voxel_size", 3)
    return (x, y, z), section.at("voxel_size")


def _read_shape(parts: ConfigSections, encoder: Section | None) -> tuple[tuple[int, int, int], str]:
    """Return (z, y, x) voxels and the field that says so.

    Without LiDAR there is only `grid_size`, (x, y, z) with one voxel less in z than `sparse_shape`;
    the head of a camera detector uses none of the three.
    """
    if encoder is None:
        x, y, z = parts.train.integers("grid_size", 3)
        return (z + 1, y, x), parts.train.at("grid_size")
    z, y, x = encoder.integers("sparse_shape", 3)
    path = encoder.at("sparse_shape")
    _expect_cells(parts.train, (z, y, x), path)
    return (z, y, x), path


def _expect_cells(section: Section, sparse_shape: tuple[int, int, int], of: str) -> None:
    """Check x and y of `grid_size`, from which the head spreads its BEV positions."""
    found = section.integers("grid_size", 3)
    wanted = sparse_shape[:0:-1]
    if found[:2] != wanted and not section.report.covers(of):
        section.fault("grid_size", list(found), f"disagrees with {of}, which asks for {wanted}")
