"""A plain NumPy twin of mmcv's hard voxeliser, for machines without mmcv's compiled ops.

All arithmetic is float32, as in the original.

Source: mmcv 2.1, mmcv/ops/csrc/pytorch/cpu/voxelization.cpp, `hard_voxelize_kernel`.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Cell = tuple[int, int, int]  # z, y, x


def numpy_voxels(
    points: NDArray[np.float32],
    *,
    voxel_size: Sequence[float],
    point_cloud_range: Sequence[float],
    max_num_points: int,
    max_voxels: int,
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int32]]:
    """Group points by voxel, in the order of the points.

    Args:
        points: (P, C) float32, x y z (m) first.
        voxel_size: x y z, metres.
        point_cloud_range: x y z minimum, x y z maximum, metres; points outside are dropped.
        max_num_points: of a voxel; later ones are dropped.
        max_voxels: further voxels are dropped, with their points.

    Returns:
        (M, max_num_points, C) float32 points of each voxel, 0 where there are fewer; (M, 3) int32
        z y x of the voxels, in order of first appearance; (M,) int32 number of points.
    """
    size, low = np.float32(voxel_size), np.float32(point_cloud_range[:3])
    sides = np.round((np.float32(point_cloud_range[3:]) - low) / size)
    cells = np.floor((points[:, :3] - low) / size)
    inside = ((cells >= 0) & (cells < sides)).all(axis=1)
    members: dict[Cell, list[NDArray[np.float32]]] = {}
    for point, (x, y, z) in zip(points[inside], cells[inside].astype(int).tolist(), strict=True):
        cell = (z, y, x)
        if cell not in members and len(members) < max_voxels:
            members[cell] = []
        if cell in members and len(members[cell]) < max_num_points:
            members[cell].append(point)
    voxels = np.zeros((len(members), max_num_points, points.shape[1]), np.float32)
    for voxel, voxel_points in zip(voxels, members.values(), strict=True):
        voxel[: len(voxel_points)] = voxel_points
    counts = [len(voxel_points) for voxel_points in members.values()]
    return voxels, np.array(list(members), np.int32).reshape(-1, 3), np.array(counts, np.int32)
