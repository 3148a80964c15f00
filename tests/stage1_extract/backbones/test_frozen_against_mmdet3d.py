"""The frozen LiDAR branch gives, bit for bit, what mmdet3d's own classes give.

The classes are called with the values that the official r50 config writes. Points are voxelised by
a NumPy twin of the official voxeliser, and by mmdet3d's own preprocessor where mmcv has its
compiled ops: nothing of ours takes part on that side but the weights.

Source: CMT, projects/configs/fusion/cmt_voxel0100_r50_800x320_cbgs.py.
"""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mmdet3d.models import HardSimpleVFE, SparseEncoder
from mmdet3d.models.backbones import SECOND
from mmdet3d.models.data_preprocessors import Det3DDataPreprocessor
from spconv.core import ConvAlgo
from spconv.pytorch.conv import SparseConvolution
from torch import Tensor, nn

from benchmarks.validation.fidelity.numpy_voxels import numpy_voxels
from shared.checkpoint.strict_loading import load_parts
from shared.config.preset_catalogue import r50_800x320
from stage1_extract.backbones.frozen import FrozenBackbones
from stage1_extract.backbones.mmcv_ops import has_compiled_ops
from stage1_extract.preprocessing.voxels import GroupedPoints, Voxelizer, Voxels, batch_voxels
from tests.stage1_extract.backbones.random_weights import randomise

CPU = torch.device("cpu")
CROWDS, CROWD = 60, 50  # and points in each
VOXEL_M = [0.1, 0.1, 0.2]
POINT_RANGE_M = [-54.0, -54.0, -5.0, 54.0, 54.0, 3.0]

both_batch_sizes = pytest.mark.parametrize("samples", [1, 3])
# spconv 2.3.8 indexes with a list.
pytestmark = pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")


def official_encoder() -> nn.Module:
    encoder = SparseEncoder(
        in_channels=5,
        sparse_shape=[41, 1024, 1024],
        output_channels=128,
        order=("conv", "norm", "act"),
        encoder_channels=((16, 16, 32), (32, 32, 64), (64, 64, 128), (128, 128)),
        encoder_paddings=((0, 0, 1), (0, 0, 1), (0, 0, [0, 1, 1]), (0, 0)),
        block_type="basicblock",
    )
    for module in encoder.modules():
        if isinstance(module, SparseConvolution):
            module.algo = ConvAlgo.Native  # the only one that runs on a CPU
    return encoder


def official_second() -> nn.Module:
    return SECOND(
        in_channels=256,
        out_channels=[128, 256],
        layer_nums=[5, 5],
        layer_strides=[1, 2],
        norm_cfg={"type": "BN", "eps": 0.001, "momentum": 0.01},
        conv_cfg={"type": "Conv2d", "bias": False},
    )


def plain_voxels(points: Tensor, max_voxels: int = 160_000) -> GroupedPoints:
    """Voxelise a cloud with the NumPy twin of the official voxeliser, in test mode."""
    arrays = numpy_voxels(
        points.numpy(),
        voxel_size=VOXEL_M,
        point_cloud_range=POINT_RANGE_M,
        max_num_points=10,
        max_voxels=max_voxels,
    )
    grouped, coordinates, counts = map(torch.from_numpy, arrays)
    return GroupedPoints(points=grouped, coordinates=coordinates, counts=counts)


@pytest.fixture(scope="module")
def lidar() -> FrozenBackbones:
    """The LiDAR branch of the r50 preset, whole."""
    frozen = FrozenBackbones(replace(r50_800x320(), camera=None))
    randomise(frozen)
    frozen.to_device(CPU)
    return frozen


@pytest.fixture(scope="module")
def official(lidar: FrozenBackbones) -> dict[str, nn.Module]:
    """The official modules in eval mode, with our weights, loaded strictly by their own code."""
    modules = {"pts_middle_encoder": official_encoder(), "pts_backbone": official_second()}
    for name, module in modules.items():
        module.load_state_dict(getattr(lidar, name).state_dict(), strict=True)
        module.eval()
    return modules


@pytest.fixture(scope="module")
def voxelizer(lidar: FrozenBackbones) -> Voxelizer:
    return Voxelizer(lidar.preset.grid, lidar.preset.lidar)


def cloud(seed: int) -> Tensor:
    """Return (P, 5) points: crowds, so that voxels have neighbours, and overflow; some far out."""
    random = torch.Generator().manual_seed(seed)
    low = torch.tensor([-56.0, -56.0, -6.0, 0.0, 0.0])
    high = torch.tensor([56.0, 56.0, 4.0, 255.0, 0.5])
    points = low + (high - low) * torch.rand(CROWDS, 1, 5, generator=random)
    points = points.repeat(1, CROWD, 1)  # (CROWDS, CROWD, 5)
    std_m = torch.linspace(0.02, 0.25, CROWDS).view(-1, 1, 1)
    points[..., :3] += std_m * torch.randn(CROWDS, CROWD, 3, generator=random)
    return points.flatten(0, 1)  # (P, 5)


def clouds(samples: int) -> list[Tensor]:
    return [cloud(seed) for seed in range(samples)]


def our_voxels(voxelizer: Voxelizer, samples: int) -> Voxels:
    return batch_voxels([voxelizer(points) for points in clouds(samples)])


def official_bev(encoder: nn.Module, samples: int) -> Tensor:
    """Return what the official modules make of the voxels inside their sparse_shape."""
    grouped = [plain_voxels(points) for points in clouds(samples)]
    points = torch.cat([cloud.points for cloud in grouped])
    counts = torch.cat([cloud.counts for cloud in grouped])
    coordinates = torch.cat(
        [nn.functional.pad(cloud.coordinates, (1, 0), value=n) for n, cloud in enumerate(grouped)]
    )
    inside = (coordinates[:, 2:] < 1024).all(dim=1)
    points, counts, coordinates = points[inside], counts[inside], coordinates[inside]
    with torch.inference_mode():
        means = HardSimpleVFE(num_features=5)(points, counts, coordinates)
        bev: Tensor = encoder(means, coordinates, samples)
    return bev


def assert_equal(voxels: GroupedPoints, expected: GroupedPoints) -> None:
    assert torch.equal(voxels.coordinates, expected.coordinates)
    assert torch.equal(voxels.counts, expected.counts)
    assert torch.equal(voxels.points, expected.points)


def test_names_and_weights_are_those_of_the_official_modules(
    lidar: FrozenBackbones, official: dict[str, nn.Module]
) -> None:
    ours = lidar.state_dict()
    theirs = nn.ModuleDict(official).state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_batch_norms_have_the_epsilon_of_the_official_modules(
    lidar: FrozenBackbones, official: dict[str, nn.Module]
) -> None:
    ours = dict(lidar.named_modules())
    epsilons = {
        name: (norm.eps, ours[name].eps)
        for name, norm in nn.ModuleDict(official).named_modules()
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
    }
    assert len(epsilons) == 21 + 12  # sparse encoder, SECOND
    assert all(theirs == own for theirs, own in epsilons.values())


@pytest.mark.parametrize("seed", range(3))
def test_the_voxels_equal_those_of_a_plain_voxeliser(voxelizer: Voxelizer, seed: int) -> None:
    voxels = voxelizer.group(cloud(seed))

    assert voxels.counts.max() == 10
    assert voxels.coordinates[:, 1:].max() >= 1024  # some lie beyond the official sparse_shape
    assert_equal(voxels, plain_voxels(cloud(seed)))


def test_at_the_limit_the_voxels_equal_those_of_a_plain_voxeliser(lidar: FrozenBackbones) -> None:
    assert lidar.preset.lidar is not None
    limited = Voxelizer(lidar.preset.grid, replace(lidar.preset.lidar, max_voxels=100))

    voxels = limited.group(cloud(0))

    assert len(voxels.counts) == 100
    assert_equal(voxels, plain_voxels(cloud(0), max_voxels=100))


@both_batch_sizes
@pytest.mark.skipif(not has_compiled_ops(), reason="mmcv-lite: hard_voxelize is a compiled op")
def test_the_voxels_equal_those_of_mmdet3ds_preprocessor(
    voxelizer: Voxelizer, samples: int
) -> None:
    preprocessor = Det3DDataPreprocessor(
        voxel=True,
        voxel_layer={
            "max_num_points": 10,
            "voxel_size": VOXEL_M,
            "max_voxels": (120000, 160000),
            "point_cloud_range": POINT_RANGE_M,
        },
    )
    preprocessor.eval()
    expected = preprocessor.voxelize(clouds(samples), data_samples=[])

    start = 0
    for number, points in enumerate(clouds(samples)):
        voxels = voxelizer.group(points)
        own = slice(start, start := start + len(voxels.counts))
        assert (expected["coors"][own, 0] == number).all()
        assert torch.equal(voxels.coordinates, expected["coors"][own, 1:])
        assert torch.equal(voxels.counts, expected["num_points"][own])
        assert torch.equal(voxels.points, expected["voxels"][own])
    assert start == len(expected["coors"])


@both_batch_sizes
def test_the_bev_map_equals_that_of_mmdet3ds_own_path(
    lidar: FrozenBackbones,
    official: dict[str, nn.Module],
    voxelizer: Voxelizer,
    samples: int,
) -> None:
    bev = lidar.encode_voxels(our_voxels(voxelizer, samples))

    expected = official_bev(official["pts_middle_encoder"], samples)
    assert expected.shape == (samples, 256, 128, 128)
    assert expected.amax(dim=(1, 2, 3)).min() > 0.1  # every sample had something to say
    assert torch.equal(bev, expected)


@both_batch_sizes
def test_seconds_maps_equal_those_of_mmdet3ds_second(
    lidar: FrozenBackbones, official: dict[str, nn.Module], samples: int
) -> None:
    bev = torch.randn(samples, 256, 24, 32, generator=torch.Generator().manual_seed(samples))

    with torch.inference_mode():
        maps = lidar.pts_backbone(bev)
        expected = official["pts_backbone"](bev)

    assert [values.shape[1:] for values in expected] == [(128, 24, 32), (256, 12, 16)]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(maps, expected, strict=True))


def test_the_lidar_maps_equal_those_of_mmdet3ds_own_path(
    lidar: FrozenBackbones, official: dict[str, nn.Module], voxelizer: Voxelizer
) -> None:
    maps = lidar(None, our_voxels(voxelizer, samples=1))

    with torch.inference_mode():
        bev = official_bev(official["pts_middle_encoder"], samples=1)
        expected = official["pts_backbone"](bev)
    for name, values in zip(("lidar/stride8", "lidar/stride16"), expected, strict=True):
        assert torch.equal(maps[name], values)


def test_mmdet3d_refuses_a_state_dict_that_lost_its_metadata_and_ours_loads_it(
    lidar: FrozenBackbones,
) -> None:
    """A plain dict has no `_metadata`; mmdet3d then takes its weights for spconv 1's."""
    plain = dict(lidar.state_dict())
    of_encoder = dict(lidar.pts_middle_encoder.state_dict())
    sparse = [name for name, tensor in of_encoder.items() if tensor.dim() == 5]

    with pytest.raises(RuntimeError, match="size mismatch") as refusal:
        official_encoder().load_state_dict(of_encoder, strict=True)

    assert re.findall(r"size mismatch for (\S+):", str(refusal.value)) == sparse
    copy = FrozenBackbones(lidar.preset)
    load_parts(copy, plain, copy.parts, path=Path("plain.pth"))
    assert copy.digests() == lidar.digests()
