"""What spconv does with voxels beyond the sparse shape, which the r50 grid makes: see `PointGrid`.

They have no output of their own, but a submanifold convolution looks up voxels by their index in
the flattened grid, where (z, y, 1024 + i) is (z, y + 1, i) and (z, 1024 + i, x) is (z + 1, i, x):
they act on voxels at the opposite end of the grid. Half of the kernel is looked up and mirrored for
the rest, so only some neighbours notice. These tests cover the CPU's algorithm; the GPU's looks up
the other half (read, not run), so the two disagree wherever such a voxel acts.

Source: spconv 2.3.8, csrc/sparse/indices.py: `generate_subm_conv_inds` and `query_npq` for the CPU,
`calc_subm_conv_indices_mask` for the GPU.
"""

from collections.abc import Iterable
from itertools import product
from pathlib import Path

import pytest
import torch
from spconv.core import ConvAlgo
from spconv.pytorch import SparseConv3d, SparseConvTensor, SubMConv3d
from torch import Tensor

from shared.config.preset import LidarBranch
from shared.config.preset_catalogue import GRID_0100, r50_800x320
from stage1_extract.backbones.lidar_backbone import build_sparse_encoder, use_native_convolutions
from stage1_extract.nuscenes.info_files import read_infos
from stage1_extract.preprocessing.sweeps import load_points
from stage1_extract.preprocessing.voxels import Voxelizer, Voxels, inside_sparse_shape

CPU = torch.device("cpu")
SHAPE = GRID_0100.sparse_shape
SIDE = SHAPE[2]

Site = tuple[int, int, int]  # z, y, x

NEIGHBOURS = [offset for offset in product((-1, 0, 1), repeat=3) if any(offset)]


def sparse(sites: Tensor, values: Tensor) -> SparseConvTensor:
    """Return a sparse tensor of one channel from (M, 3) int32 sites and (M,) values."""
    coordinates = torch.nn.functional.pad(sites, (1, 0))  # (M, 4) with batch index 0
    return SparseConvTensor(values[:, None], coordinates, list(SHAPE), 1)


def submanifold(sites: Tensor, values: Tensor) -> Tensor:
    """Convolve with weights 1 to 27, tap by tap in z, y, x; (M,)."""
    layer = SubMConv3d(1, 1, 3, padding=1, bias=False, algo=ConvAlgo.Native)
    with torch.inference_mode():
        layer.weight.copy_(torch.arange(1.0, 28.0).view(1, 3, 3, 3, 1))
        convolved: Tensor = layer(sparse(sites, values)).features[:, 0]
    return convolved


def convolved(values: dict[Site, float]) -> dict[Site, float]:
    """Convolve a few sites, in their order."""
    sites = torch.tensor(list(values), dtype=torch.int32)
    outputs = submanifold(sites, torch.tensor(list(values.values())))
    return dict(zip(values, outputs.tolist(), strict=True))


def tap(offset: Iterable[int]) -> float:
    """Return the weight for a neighbour at this offset."""
    z, y, x = offset
    return 1.0 + 9 * (z + 1) + 3 * (y + 1) + (x + 1)


def plus(site: Site, offset: Iterable[int]) -> Site:
    z, y, x = (a + b for a, b in zip(site, offset, strict=True))
    return z, y, x


def strided_sites(site: Site) -> list[list[int]]:
    """Return the sites (0, z, y, x) that a strided convolution makes of a site."""
    layer = SparseConv3d(1, 1, 3, stride=2, padding=1, bias=False, algo=ConvAlgo.Native)
    with torch.inference_mode():
        outputs = layer(sparse(torch.tensor([site], dtype=torch.int32), torch.ones(1)))
    sites: list[list[int]] = outputs.indices.tolist()
    return sites


def test_within_the_shape_every_neighbour_is_seen() -> None:
    site = (20, 500, 700)
    for offset in NEIGHBOURS:
        values = convolved({site: 0.0, plus(site, offset): 1.0})
        assert values[site] == tap(offset)


@pytest.mark.parametrize("index", [SIDE, SIDE + 6, 1079])
def test_a_strided_convolution_drops_a_voxel_beyond_the_shape(index: int) -> None:
    assert strided_sites((20, 500, index)) == []
    assert strided_sites((20, index, 500)) == []


def test_a_strided_convolution_keeps_the_last_voxel_within_the_shape() -> None:
    assert strided_sites((20, 500, SIDE - 1)) == [[0, 10, 250, SIDE // 2 - 1]]


def test_a_voxel_just_beyond_reaches_four_of_its_nine_neighbours_within() -> None:
    beyond = (20, 500, SIDE)
    reached = set()
    for z, y in product((-1, 0, 1), repeat=2):
        within = plus(beyond, (z, y, -1))
        response = convolved({beyond: 1.0, within: 0.0})[within]
        assert response in (0.0, tap((-z, -y, 1)))
        if response:
            reached.add((z, y))
    assert reached == {(1, -1), (1, 0), (1, 1), (0, 1)}


@pytest.mark.parametrize(
    ("beyond", "twin"),
    [
        pytest.param((20, 500, SIDE + 6), (20, 501, 6), id="x"),
        pytest.param((20, SIDE + 6, 500), (21, 6, 500), id="y"),
    ],
)
def test_a_voxel_beyond_acts_like_a_voxel_at_the_opposite_end_on_half_of_its_neighbours(
    beyond: Site, twin: Site
) -> None:
    reached = []
    for offset in NEIGHBOURS:
        within = plus(twin, offset)
        response = convolved({beyond: 1.0, within: 0.0})[within]
        assert response in (0.0, tap(-step for step in offset))
        if response:
            reached.append(offset)
    assert reached == NEIGHBOURS[:13]


def test_of_two_voxels_with_one_flat_index_the_first_is_seen() -> None:
    beyond, twin, within = (20, 500, SIDE + 6), (20, 501, 6), (20, 501, 5)

    twin_first = convolved({twin: 1.0, beyond: 100.0, within: 0.0})
    beyond_first = convolved({beyond: 100.0, twin: 1.0, within: 0.0})

    assert twin_first[within] == tap((0, 0, 1))
    assert beyond_first[within] == 100 * tap((0, 0, 1))


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")
def test_a_voxel_at_the_far_edge_changes_the_bev_map_at_the_near_edge() -> None:
    """The voxel beyond is at x = 49.05 m, the voxel that it acts on at x = -53.45 m."""
    branch = LidarBranch(
        encoder_channels=((2, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2)),
        encoder_out_channels=2,
        second_channels=(1, 1),
        second_layers=(1, 1),
    )
    encoder = build_sparse_encoder(GRID_0100, branch).requires_grad_(False).eval()
    use_native_convolutions(encoder)
    for weight in encoder.parameters():
        weight.fill_(0.5)
    coordinates = torch.tensor([[0, 20, 500, 5], [0, 20, 499, SIDE + 6]], dtype=torch.int32)
    features = torch.ones(2, 5)

    with torch.inference_mode():
        alone = encoder(features[:1], coordinates[:1], 1)
        both = encoder(features, coordinates, 1)

    assert ((alone > 0) == (both > 0)).all()  # it lights no cell
    changed = (alone != both).any(dim=1)[0].nonzero()  # (cells, 2) row, column
    assert {tuple(cell) for cell in changed.tolist()} == {(62, 0), (62, 1), (63, 0), (63, 1)}


def test_we_leave_them_out_and_nothing_else() -> None:
    sites = torch.tensor(
        [[0, 1023, 1023], [0, 1024, 0], [40, 0, 1024], [40, 0, 7]], dtype=torch.int32
    )
    voxels = Voxels(means=torch.arange(4.0)[:, None], coordinates=sites)
    inside = inside_sparse_shape(voxels, GRID_0100)
    assert inside.coordinates.tolist() == [[0, 1023, 1023], [40, 0, 7]]
    assert inside.means.flatten().tolist() == [0, 3]


@pytest.mark.real
def test_in_the_real_frames_they_reach_no_voxel_within(nuscenes_real: Path) -> None:
    infos = nuscenes_real / "infos" / "real_complete.v1.pkl"
    voxelizer = Voxelizer(GRID_0100, r50_800x320().lidar)
    for record in read_infos(infos, nuscenes_real):
        sites = voxelizer.group(torch.from_numpy(load_points(record, sweeps=10))).coordinates
        within = (sites[:, 1:] < SIDE).all(dim=1)
        assert 0 < (~within).sum() < 100

        with_them = submanifold(sites, torch.ones(len(sites)))
        without = submanifold(sites[within], torch.ones(int(within.sum())))
        assert torch.equal(with_them[within], without)
