"""From points to voxels and their means; voxels by spconv's voxeliser, the official algorithm.

Of spconv only the compiled module is imported: `spconv.pytorch` spends seconds on describing its
GPU kernels, and a loader process needs none.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from cumm import tensorview
from spconv.core_cc.csrc.sparse.all.ops_cpu3d import Point2VoxelCPU
from torch import Tensor

from shared.config.preset import LidarBranch, PointGrid
from stage1_extract.preprocessing.sweeps import COLUMNS

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupedPoints:
    """The points of a cloud by voxel.

    Args:
        points: (M, 10, 5) float32, the first points of each voxel, 0 where there are fewer.
        coordinates: (M, 3) int32 z, y, x.
        counts: (M,) int32, points of each voxel, at most 10.
    """

    points: Tensor
    coordinates: Tensor
    counts: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Voxels:
    """The occupied voxels of one cloud, or of a batch (`batch_voxels`), within the sparse shape.

    Args:
        means: (M, 5) float32, the mean of each voxel's points.
        coordinates: (M, 3) int32 z, y, x; in a batch (M, 4) int32 batch index, z, y, x.
        samples: clouds in the batch; the last clouds may have no voxel at all.
    """

    means: Tensor
    coordinates: Tensor
    samples: int = 1

    def to(self, device: torch.device) -> "Voxels":
        """Move everything to `device`."""
        return Voxels(
            means=self.means.to(device, non_blocking=True),
            coordinates=self.coordinates.to(device, non_blocking=True),
            samples=self.samples,
        )


class Voxelizer:
    """Groups the points of a cloud by voxel, on a CPU.

    The result is reproducible: voxels in order of first appearance, and the first ten points of
    each. It holds a dense grid of int32: 190 MB for `r50_800x320`.

    Args:
        grid: range and voxel size.
        lidar: limits.

    Upstream: on a GPU, where the order, and which points of a full voxel survive, may differ from
    run to run.
    """

    def __init__(self, grid: PointGrid, lidar: LidarBranch) -> None:
        self.grid = grid
        self.lidar = lidar
        self._native = Point2VoxelCPU(
            vsize_xyz=list(grid.voxel_m),
            coors_range_xyz=list(grid.point_range_m),
            num_point_features=COLUMNS,
            max_num_voxels=lidar.max_voxels,
            max_num_points_per_voxel=lidar.max_points_per_voxel,
        )

    def __call__(self, points: Tensor, max_voxels: int | None = None) -> Voxels:
        """Voxelise one cloud; points outside the range are dropped.

        Means are taken where points are loaded, also for a GPU: they have a tenth of the bytes.

        Args:
            points: (P, 5) float32 on the CPU, see `sweeps.load_points`; P may be 0.
            max_voxels: a limit below that of `lidar`: voxels that appear later are dropped.
        """
        grouped = self._grouped(points, max_voxels)
        voxels = Voxels(means=mean_points(grouped), coordinates=grouped.coordinates)
        return inside_sparse_shape(voxels, self.grid)

    def group(self, points: Tensor, max_voxels: int | None = None) -> GroupedPoints:
        """Return the points of every voxel, of those beyond the sparse shape as well."""
        grouped = self._grouped(points, max_voxels)
        return GroupedPoints(
            points=grouped.points.clone(),
            coordinates=grouped.coordinates.clone(),
            counts=grouped.counts.clone(),
        )

    def _grouped(self, points: Tensor, max_voxels: int | None) -> GroupedPoints:
        """Return views of the voxeliser's own memory, which the next cloud overwrites."""
        limit = min(self.lidar.max_voxels, max_voxels or self.lidar.max_voxels)
        assert points.dtype == torch.float32
        assert points.shape[1:] == (COLUMNS,)
        native = self._native.point_to_voxel(tensorview.from_numpy(points.contiguous().numpy()))
        grouped, coordinates, counts = (
            torch.from_numpy(values.numpy_view()[:limit]) for values in native
        )
        if len(grouped) == limit:
            _warn_of_the_limit(self.grid, limit, points)
        return GroupedPoints(points=grouped, coordinates=coordinates, counts=counts)


def mean_points(grouped: GroupedPoints) -> Tensor:
    """Return (M, 5) float32, the mean of each voxel's points.

    Source: mmdet3d, `HardSimpleVFE`, the same operations.
    """
    return grouped.points.sum(dim=1) / grouped.counts.view(-1, 1)


def batch_voxels(clouds: Sequence[Voxels], *, is_pinned: bool = False) -> Voxels:
    """Join the voxels of several clouds, with the batch index in front of the coordinates.

    Args:
        clouds: at least one, on the CPU.
        is_pinned: join them in page-locked memory. Otherwise the host itself copies them to where a
            GPU can read them, and the driver may wait for what is queued before.
    """
    voxels = sum(len(cloud.means) for cloud in clouds)
    place = torch.empty((voxels, 4), dtype=torch.int32, pin_memory=is_pinned)
    batch_index, z_y_x = place.numpy()[:, 0], place.numpy()[:, 1:]
    # By NumPy: torch would take all cores for the copies, which have work.
    np.concatenate([cloud.coordinates.numpy() for cloud in clouds], out=z_y_x)
    batch_index[:] = np.repeat(np.arange(len(clouds)), [len(cloud.means) for cloud in clouds])
    means = torch.empty((voxels, COLUMNS), dtype=torch.float32, pin_memory=is_pinned)
    np.concatenate([cloud.means.numpy() for cloud in clouds], out=means.numpy())
    return Voxels(means=means, coordinates=place, samples=len(clouds))


def inside_sparse_shape(voxels: Voxels, grid: PointGrid) -> Voxels:
    """Copy the voxels within the shape that the sparse encoder is given: see `PointGrid`.

    Upstream: such voxels are passed on, lose their own output at the first strided convolution, and
    until then act as if they were at the opposite end of the grid, on different neighbours on a CPU
    than on a GPU (tests/stage1_extract/backbones/test_voxels_beyond_the_shape.py). Their points are
    lost either way; leaving them out makes the result independent of the device and of the order of
    points. It is bit-identical to upstream's on a CPU for the available real frames.

    Args:
        voxels: of one cloud.
        grid: the preset's.
    """
    z, y, x = voxels.coordinates.unbind(1)
    depth, height, width = grid.sparse_shape
    inside = ((z < depth) & (y < height) & (x < width)).nonzero().flatten()
    return Voxels(means=voxels.means[inside], coordinates=voxels.coordinates[inside])


def _warn_of_the_limit(grid: PointGrid, max_voxels: int, points: Tensor) -> None:
    low = points.new_tensor(grid.point_range_m[:3])
    cells = torch.floor((points[:, :3] - low) / points.new_tensor(grid.voxel_m))
    sides = points.new_tensor(grid.range_voxels).flip(0)
    inside = ((cells >= 0) & (cells < sides)).all(dim=1)
    occupied = len(torch.unique(cells[inside], dim=0))
    if occupied > max_voxels:
        logger.warning(
            "the cloud fills %d voxels, the limit is %d: the last %d are dropped",
            occupied,
            max_voxels,
            occupied - max_voxels,
        )
