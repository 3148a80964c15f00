"""Where a point lands in the BEV maps: in cell floor((x - x_min) / (8 voxels)), rows y, columns x.

To show it, the weights are set to add up: a submanifold kernel sees its own site, a strided kernel
its own and the next, so each strided layer sums blocks of two by two and the BEV map 8 by 8.
"""

import pytest
import torch
from spconv.pytorch.conv import SparseConvolution
from torch import Tensor, nn

from shared.config.head_config import HeadConfig
from shared.config.preset import LidarBranch, PointGrid, Preset
from shared.config.preset_catalogue import GRID_0075, GRID_0100
from stage1_extract.backbones.frozen import FrozenBackbones
from stage1_extract.preprocessing.voxels import Voxelizer, Voxels, batch_voxels

CPU = torch.device("cpu")
LIDAR = LidarBranch(
    encoder_channels=((1, 1, 1), (1, 1, 1), (1, 1, 1), (1, 1)),
    encoder_out_channels=1,
    second_channels=(1, 1),
    second_layers=(1, 1),
)
INTENSITY = 3  # the only number of a point that these weights look at

# Cells of 0.8 m from -54 m: (0.05 + 54) / 0.8 = 67.6, (48.3 + 54) / 0.8 = 127.9, and so on.
ON_GRID_0100 = [
    ((0.05, 0.05), (67, 67)),
    ((-53.95, -53.95), (0, 0)),
    ((10.1, -20.1), (80, 42)),
    ((-20.1, 10.1), (42, 80)),
    ((48.3, -10.0), (127, 55)),
    ((-10.0, 48.35), (55, 127)),
]
# Cells of 0.6 m: (0.05 + 54) / 0.6 = 90.1, (53.95 + 54) / 0.6 = 179.9.
ON_GRID_0075 = [
    ((0.05, 0.05), (90, 90)),
    ((10.1, -20.1), (106, 56)),
    ((48.5, -10.0), (170, 73)),
    ((53.95, -53.95), (179, 0)),
    ((-53.95, 53.95), (0, 179)),
]
CASES = [
    *[(GRID_0100, point, cell) for point, cell in ON_GRID_0100],
    *[(GRID_0075, point, cell) for point, cell in ON_GRID_0075],
]
IDS = [f"{grid.bev_cells} cells {point}" for grid, point, _ in CASES]

pytestmark = pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")


def adding_branch(grid: PointGrid) -> FrozenBackbones:
    """Return a LiDAR branch of one channel that sums blocks; BatchNorm does nothing."""
    preset = Preset(name="adding", grid=grid, camera=None, lidar=LIDAR, head=HeadConfig())
    frozen = FrozenBackbones(preset)
    frozen.to_device(CPU)
    for module in frozen.modules():
        if isinstance(module, SparseConvolution) and module.subm:
            module.weight.zero_()[:, 1, 1, 1] = 1
        elif isinstance(module, SparseConvolution) and module.weight.shape[3] == 3:
            module.weight.zero_()[:, :, 1:, 1:] = 1
        elif isinstance(module, SparseConvolution):
            module.weight.fill_(1)  # conv_out: across heights only
        elif isinstance(module, nn.Conv2d):
            module.weight.zero_()[:, :, 1, 1] = 1
            if module.stride == (2, 2):
                module.weight[:, :, 1:, 1:] = 1
    first = frozen.pts_middle_encoder.conv_input[0].weight
    first.zero_()[:, 1, 1, 1, INTENSITY] = 1
    return frozen


@pytest.fixture(scope="module")
def branches() -> dict[PointGrid, FrozenBackbones]:
    return {grid: adding_branch(grid) for grid in (GRID_0100, GRID_0075)}


@pytest.fixture(scope="module")
def voxelizers() -> dict[PointGrid, Voxelizer]:
    return {grid: Voxelizer(grid, LIDAR) for grid in (GRID_0100, GRID_0075)}


def points_at(*points: tuple[float, float]) -> Tensor:
    """Return points (P, 5), 0.05 m above the sensor."""
    return torch.tensor([[*xy, 0.05, 1.0, 0.0] for xy in points])


def voxels_at(voxelizer: Voxelizer, *points: tuple[float, float]) -> Voxels:
    """Return the voxels of points 0.05 m above the sensor."""
    return batch_voxels([voxelizer(points_at(*points))])


def lit(bev: Tensor) -> set[tuple[int, int]]:
    """Return the (column, row), that is (x, y), of the cells of a (1, C, Y, X) map above 0."""
    return {(x, y) for y, x in (bev[0].amax(dim=0) > 0).nonzero().tolist()}


@pytest.mark.parametrize(("grid", "point", "cell"), CASES, ids=IDS)
def test_a_point_lights_its_cell_of_the_bev_map_and_of_both_lidar_maps(
    branches: dict[PointGrid, FrozenBackbones],
    voxelizers: dict[PointGrid, Voxelizer],
    grid: PointGrid,
    point: tuple[float, float],
    cell: tuple[int, int],
) -> None:
    branch, voxels = branches[grid], voxels_at(voxelizers[grid], point)

    maps = branch(None, voxels)

    assert lit(branch.encode_voxels(voxels)) == {cell}
    assert lit(maps["lidar/stride8"]) == {cell}
    assert lit(maps["lidar/stride16"]) == {(cell[0] // 2, cell[1] // 2)}


def test_a_cell_is_not_a_share_of_the_range(
    branches: dict[PointGrid, FrozenBackbones], voxelizers: dict[PointGrid, Voxelizer]
) -> None:
    """CMT's position embedding says it is: 128 cells over 108 m instead of over 102.4 m."""
    share = int((0.05 + 54) / 108 * GRID_0100.bev_cells)
    assert share == 64

    bev = branches[GRID_0100].encode_voxels(voxels_at(voxelizers[GRID_0100], (0.05, 0.05)))

    assert lit(bev) == {(67, 67)}


@pytest.mark.parametrize("beyond", [(48.45, 0.05), (0.05, 48.45), (53.9, 0.05), (53.9, 53.9)])
def test_a_point_beyond_48_4_m_lights_nothing_on_the_0_1_m_grid(
    branches: dict[PointGrid, FrozenBackbones],
    voxelizers: dict[PointGrid, Voxelizer],
    beyond: tuple[float, float],
) -> None:
    """Only the second point does, at (-29.9, -29.9) m: 24.1 / 0.8 = 30.1."""
    both = beyond, (-29.9, -29.9)
    assert len(voxelizers[GRID_0100].group(points_at(*both)).counts) == 2  # spconv's keeps it
    voxels = voxels_at(voxelizers[GRID_0100], *both)

    assert lit(branches[GRID_0100].encode_voxels(voxels)) == {(30, 30)}


@pytest.mark.parametrize(
    ("voxel", "columns"), [(536, {67}), (537, {67, 68}), (543, {67, 68}), (544, {68})]
)
def test_a_cell_sees_seven_voxels_to_either_side_of_its_first(
    voxel: int, columns: set[int]
) -> None:
    """With kernels that see all: cell 67 begins at voxel 536 and is centred on it."""
    branch = adding_branch(GRID_0100)
    for module in branch.pts_middle_encoder.modules():
        if isinstance(module, SparseConvolution) and not module.subm:
            module.weight.fill_(1)
    voxels = Voxels(
        means=torch.ones(1, 5),
        coordinates=torch.tensor([[0, 20, 80, voxel]], dtype=torch.int32),
    )

    assert lit(branch.encode_voxels(voxels)) == {(column, 10) for column in columns}
