"""Voxels are those of spconv's CPU voxeliser, in order of first appearance."""

import logging
from dataclasses import replace

import pytest
import torch
from mmdet3d.models.voxel_encoders import HardSimpleVFE

from shared.config.preset import PointGrid
from shared.config.preset_catalogue import tiny
from stage1_extract.preprocessing.voxels import Voxelizer, batch_voxels

CPU = torch.device("cpu")
GRID = PointGrid(
    point_range_m=(-54.0, -54.0, -5.0, 54.0, 54.0, 3.0),
    voxel_m=(0.25, 0.25, 0.2),
    sparse_shape=(41, 432, 432),
)
LIDAR = tiny().lidar


def cloud(*xyz: tuple[float, float, float]) -> torch.Tensor:
    points = torch.zeros(len(xyz), 5)
    for i, position in enumerate(xyz):
        points[i, :3] = torch.tensor(position)
        points[i, 3:] = torch.tensor([float(i), 0.5])
    return points


@pytest.fixture(scope="module")
def voxelizer() -> Voxelizer:
    return Voxelizer(GRID, LIDAR)


def test_points_are_grouped_by_cell_z_y_x(voxelizer: Voxelizer) -> None:
    voxels = voxelizer.group(cloud((-53.9, -53.6, -4.5), (0.1, 0, 0.05), (-53.8, -53.7, -4.55)))
    assert voxels.coordinates.tolist() == [[2, 1, 0], [25, 216, 216]]
    assert voxels.coordinates.dtype == voxels.counts.dtype == torch.int32
    assert voxels.counts.tolist() == [2, 1]
    assert voxels.points.shape == (2, 10, 5)
    assert voxels.points[0, :3, 3].tolist() == [0, 2, 0]
    assert not voxels.points[1, 1:].any()


def test_the_range_is_closed_below_and_open_above(voxelizer: Voxelizer) -> None:
    voxels = voxelizer(cloud((-54, -54, -5), (54, 0, 0), (0, 54, 0), (0, 0, 3), (0, 0, -5.1)))
    assert voxels.coordinates.tolist() == [[0, 0, 0]]


def test_the_first_ten_points_of_a_voxel_are_kept(voxelizer: Voxelizer) -> None:
    voxels = voxelizer.group(cloud(*[(0.1, 0.1, 0.1)] * 13))
    assert voxels.counts.tolist() == [10]
    assert voxels.points[0, :, 3].tolist() == list(range(10))


@pytest.mark.parametrize("threads", [1, 2])
def test_means_have_the_bits_of_mmdet3ds_voxel_encoder(voxelizer: Voxelizer, threads: int) -> None:
    points = torch.rand(30_000, 5, generator=torch.Generator().manual_seed(0))
    points *= torch.tensor([10.0, 10, 3, 255, 0.5])
    grouped = voxelizer.group(points)
    assert grouped.counts.min() == 1
    assert grouped.counts.max() > 3
    fields = (grouped.points, grouped.counts, grouped.coordinates)
    expected = HardSimpleVFE(num_features=5)(*(values.clone() for values in fields))

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        voxels = voxelizer(points)
    finally:
        torch.set_num_threads(before)

    assert torch.equal(voxels.means, expected)
    assert torch.equal(voxels.coordinates, grouped.coordinates)


def test_an_empty_cloud_has_no_voxels(voxelizer: Voxelizer) -> None:
    assert voxelizer.group(torch.zeros(0, 5)).points.shape == (0, 10, 5)
    voxels = voxelizer(torch.zeros(0, 5))
    assert voxels.means.shape == (0, 5)
    assert voxels.coordinates.shape == (0, 3)


def test_a_second_cloud_does_not_change_the_first(voxelizer: Voxelizer) -> None:
    first = voxelizer(cloud((0, 0, 0), (1, 1, 1)))
    before = first.means.clone(), first.coordinates.clone()
    voxelizer(cloud((5, 5, 0)))
    assert torch.equal(first.means, before[0])
    assert torch.equal(first.coordinates, before[1])


def test_the_batch_index_counts_empty_clouds_too(voxelizer: Voxelizer) -> None:
    clouds = [cloud((0.1, 0, 0.05), (-54, -54, -5)), torch.zeros(0, 5), cloud((-54, -54, -5))]
    voxels = batch_voxels([voxelizer(points) for points in clouds])
    assert voxels.coordinates.tolist() == [[0, 25, 216, 216], [0, 0, 0, 0], [2, 0, 0, 0]]
    assert voxels.coordinates.dtype == torch.int32
    assert voxels.means.shape == (3, 5)


@pytest.mark.parametrize("is_pinned", [False, pytest.param(True, marks=pytest.mark.gpu)])
def test_clouds_are_joined_as_torch_joins_them(voxelizer: Voxelizer, is_pinned: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    clouds = [voxelizer(torch.rand(n, 5, generator=generator) * 4) for n in (300, 0, 1, 200)]
    joined = batch_voxels(clouds, is_pinned=is_pinned)
    assert torch.equal(joined.means, torch.cat([voxels.means for voxels in clouds]))
    assert torch.equal(
        joined.coordinates[:, 1:], torch.cat([voxels.coordinates for voxels in clouds])
    )
    for values in (joined.means, joined.coordinates):
        assert values.is_contiguous()
        assert values.is_pinned() == is_pinned


def test_too_many_voxels_are_dropped_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    few = Voxelizer(GRID, replace(LIDAR, max_voxels=2))
    inside = [(0.1, 0.1, 0.1), (1, 1, 1), (2, 2, 1), (1, 1, 1.01), (99, 0, 0)]
    with caplog.at_level(logging.WARNING):
        voxels = few(cloud(*inside))
    assert len(voxels.means) == 2
    assert "fills 3 voxels, the limit is 2: the last 1 are dropped" in caplog.text
    caplog.clear()
    few(cloud(*inside[:2]))
    assert not caplog.records  # exactly full: nothing is lost


def test_a_lower_limit_keeps_the_voxels_that_appear_first(
    voxelizer: Voxelizer, caplog: pytest.LogCaptureFixture
) -> None:
    inside = [(0.1, 0.1, 0.1), (1, 1, 1), (2, 2, 1), (1, 1, 1.01)]
    limited = voxelizer.group(cloud(*inside), 2)
    low = Voxelizer(GRID, replace(LIDAR, max_voxels=2)).group(cloud(*inside), 9)
    for values in (limited, low):
        assert values.coordinates.tolist() == [[25, 216, 216], [30, 220, 220]]
        assert values.counts.tolist() == [1, 2]  # later points of a kept voxel still count
    assert caplog.text.count("fills 3 voxels, the limit is 2: the last 1 are dropped") == 2
