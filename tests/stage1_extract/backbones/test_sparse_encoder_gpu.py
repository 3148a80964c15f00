"""The sparse encoder gives the same on a GPU as on a CPU, with a different algorithm of spconv.

Voxels beyond `sparse_shape` are left out: test_voxels_beyond_the_shape.py shows what they do.
"""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from shared.config.preset import Preset
from shared.config.preset_catalogue import r50_800x320
from stage1_extract.backbones.frozen import FrozenBackbones
from stage1_extract.backbones.seeded_weights import seed_weights
from stage1_extract.preprocessing.voxels import Voxelizer, batch_voxels

CPU = torch.device("cpu")
CROWDS, CROWD, CROWD_STD_M = 200, 100, 0.3
INSIDE_M = 48.0  # inside `sparse_shape` in x and y

# Largest error over the largest value, both in float32 (spconv does not use TF32 unless told to).
# The CPU is 4e-7 off float64 at these widths; not measured on a GPU yet.
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def preset() -> Preset:
    return replace(r50_800x320(), camera=None)


def frozen_on(preset: Preset, device: torch.device) -> FrozenBackbones:
    frozen = FrozenBackbones(preset)
    seed_weights(frozen, 0)
    frozen.to_device(device)
    return frozen


def cloud(seed: int) -> Tensor:
    """Return (P, 5) points in crowds, so that voxels have neighbours."""
    random = torch.Generator().manual_seed(seed)
    low = torch.tensor([-54.0, -54.0, -3.0, 0.0, 0.0])
    high = torch.tensor([INSIDE_M, INSIDE_M, 2.0, 255.0, 0.5])
    points = low + (high - low) * torch.rand(CROWDS, 1, 5, generator=random)
    points = points.repeat(1, CROWD, 1)  # (CROWDS, CROWD, 5)
    points[..., :3] += CROWD_STD_M * torch.randn(CROWDS, CROWD, 3, generator=random)
    points = points.flatten(0, 1)  # (P, 5)
    return points[(points[:, :2] < INSIDE_M).all(dim=1)]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("samples", [1, 3])
def test_a_gpu_gives_the_bev_map_of_the_cpu(preset: Preset, samples: int) -> None:
    voxelizer = Voxelizer(preset.grid, preset.lidar)
    voxels = batch_voxels([voxelizer(cloud(seed)) for seed in range(samples)])
    gpu = torch.device("cuda")

    bev = frozen_on(preset, gpu).encode_voxels(voxels.to(gpu))

    expected = frozen_on(preset, CPU).encode_voxels(voxels)
    assert bev.dtype == torch.float32
    error = (bev.to(CPU) - expected).abs().amax(dim=(1, 2, 3)) / expected.abs().amax()
    assert error.max() <= TOLERANCE
