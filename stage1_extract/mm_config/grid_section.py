"""The grid of a config: range, voxels and cells, which a config states in several places."""

from collections.abc import Callable
from functools import partial

from shared.config.mm_config.config_reader import Section
from shared.config.preset import LIDAR_STRIDES, PointGrid
from stage1_extract.mm_config.config_sections import ConfigSections

STRIDE = LIDAR_STRIDES[0]


def read_grid(
    sections: ConfigSections, voxels: Section | None, encoder: Section | None
) -> Callable[[], PointGrid]:
    """Read range, voxel size and sparse shape, and check that all their places agree.

    Args:
        sections: of the config.
        voxels: the voxel layer, or None without LiDAR.
        encoder: `pts_middle_encoder`, or None without LiDAR.

    Returns:
        A function that makes the grid; to be called only if there is no fault.
    """
    range_m = _read_range(sections, voxels)
    voxel_m, voxel_path = _read_voxel(sections.train if voxels is None else voxels)
    if voxels is not None:
        sections.train.expect("voxel_size", voxel_m, of=voxel_path)
    sparse_shape, cells_path = _read_shape(sections, encoder)
    sections.head.fixed({"downsample_scale": STRIDE})
    sections.train.expect("out_size_factor", STRIDE, of=sections.head.at("downsample_scale"))
    if sections.test is not None:
        # The official LiDAR config gives only x and y; nothing reads them.
        sections.test.expect("voxel_size", voxel_m, voxel_m[:2], of=voxel_path)
        sections.test.expect("out_size_factor", STRIDE, of=sections.head.at("downsample_scale"))
        _expect_cells(sections.test, sparse_shape, cells_path)
    x_min, y_min, z_min, x_max, y_max, z_max = range_m
    return partial(
        PointGrid,
        point_range_m=(x_min, y_min, z_min, x_max, y_max, z_max),
        voxel_m=voxel_m,
        sparse_shape=sparse_shape,
        stride=STRIDE,
    )


def _read_range(sections: ConfigSections, voxels: Section | None) -> tuple[float, ...]:
    """Return the range that the head computes with; all other places must agree with it."""
    range_m, path = sections.coder.numbers("pc_range", 6), sections.coder.at("pc_range")
    sections.assigner.expect("pc_range", range_m, of=path)
    sections.train.expect("point_cloud_range", range_m, of=path)
    if sections.test is not None:
        # The official LiDAR config gives only the first two; nothing reads them.
        sections.test.expect("pc_range", range_m, range_m[:2], of=path)
    if "PointsRangeFilter" in sections.steps:
        step = sections.steps["PointsRangeFilter"]
        step.expect("point_cloud_range", range_m, of=path, required=True)
    if voxels is not None:
        voxels.expect("point_cloud_range", range_m, of=path, required=True)
    return range_m


def _read_voxel(section: Section) -> tuple[tuple[float, float, float], str]:
    x, y, z = section.numbers("voxel_size", 3)
    return (x, y, z), section.at("voxel_size")


def _read_shape(
    sections: ConfigSections, encoder: Section | None
) -> tuple[tuple[int, int, int], str]:
    """Return (z, y, x) voxels and the field that sets them.

    Without LiDAR there is only `grid_size`, (x, y, z) with one voxel fewer in z than
    `sparse_shape`; the head of a camera detector uses none of the three.
    """
    if encoder is None:
        x, y, z = sections.train.integers("grid_size", 3)
        return (z + 1, y, x), sections.train.at("grid_size")
    z, y, x = encoder.integers("sparse_shape", 3)
    path = encoder.at("sparse_shape")
    _expect_cells(sections.train, (z, y, x), path)
    return (z, y, x), path


def _expect_cells(section: Section, sparse_shape: tuple[int, int, int], of: str) -> None:
    """Check x and y of `grid_size`, from which the head computes its BEV positions."""
    cells = section.integers("grid_size", 3)
    wanted = sparse_shape[:0:-1]
    if cells[:2] != wanted and not section.report.covers(of):
        section.fault("grid_size", list(cells), f"disagrees with {of}, which asks for {wanted}")
