"""A detector small enough to reason about: B 2, Q 5, L 2, K 4."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from shared.config.head_config import Denoising, HeadConfig
from shared.config.preset import PointGrid, Preset
from shared.config.preset_catalogue import tiny
from shared.data.batch import Batch
from shared.model.outputs import HeadOutputs

LAYERS, SAMPLES, QUERIES, CLASSES = 2, 2, 5, 4


@pytest.fixture
def config() -> HeadConfig:
    return HeadConfig(
        queries=QUERIES,
        width=16,
        heads=2,
        layers=LAYERS,
        ffn_width=24,
        bev_neck_channels=(4, 4),
        depths=3,
        task_width=8,
        classes=CLASSES,
        denoising=Denoising(groups=2),
        max_boxes=6,
    )


@pytest.fixture
def preset(config: HeadConfig) -> Preset:
    small = tiny()
    grid = PointGrid(
        point_range_m=(-8.0, -8.0, -5.0, 8.0, 8.0, 3.0),
        voxel_m=(0.25, 0.25, 0.2),
        sparse_shape=(41, 64, 64),
    )
    return replace(
        small,
        name="test",
        camera=replace(small.camera, base_channels=1, height_px=32, width_px=64),
        grid=grid,
        lidar=replace(small.lidar, second_channels=(3, 5)),
        head=config,
    )


@pytest.fixture
def boxes() -> tuple[Tensor, Tensor]:
    """Two boxes in the first sample and one in the second, all inside the range."""
    return (
        torch.tensor(
            [
                [1.0, -2.0, 0.5, 4.0, 2.0, 1.5, 0.3, 1.0, 0.0],
                [-5.0, 3.0, -1.0, 0.8, 0.6, 1.7, -2.0, 0.0, 0.5],
            ]
        ),
        torch.tensor([[6.0, 6.0, 0.0, 10.0, 3.0, 3.5, 1.5, 0.0, 0.0]]),
    )


@pytest.fixture
def labels() -> tuple[Tensor, Tensor]:
    return torch.tensor([3, 0]), torch.tensor([1])


@pytest.fixture
def no_boxes() -> tuple[Tensor, Tensor]:
    return torch.empty(0, 9), torch.empty(0, 9)


@pytest.fixture
def no_labels() -> tuple[Tensor, Tensor]:
    return torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64)


@pytest.fixture
def outputs() -> HeadOutputs:
    """Random predictions whose leaves collect gradients."""
    generator = torch.Generator().manual_seed(0)
    predictions = {
        name: torch.randn(LAYERS, SAMPLES, QUERIES, size, generator=generator, requires_grad=True)
        for name, size in {
            "center_xy_m": 2,
            "log_length": 1,
            "log_width_z_log_height": 3,
            "yaw_sin_cos": 2,
            "velocity_mps": 2,
            "class_logits": CLASSES,
        }.items()
    }
    return HeadOutputs(**predictions)


@pytest.fixture
def batch(preset: Preset, boxes: tuple[Tensor, Tensor], labels: tuple[Tensor, Tensor]) -> Batch:
    generator = torch.Generator().manual_seed(1)
    # Six cameras in a ring: the optical axis in the LiDAR's x-y plane, 60 degrees apart.
    yaw = torch.arange(6, dtype=torch.float64) * torch.pi / 3
    zero, unit = torch.zeros_like(yaw), torch.ones_like(yaw)
    cam_from_lidar = torch.stack(
        [
            torch.stack([yaw.sin(), -yaw.cos(), zero, zero], -1),
            torch.stack([zero, zero, -unit, zero], -1),
            torch.stack([yaw.cos(), yaw.sin(), zero, zero], -1),
            torch.stack([zero, zero, zero, unit], -1),
        ],
        dim=-2,
    )  # (6, 4, 4)
    intrinsics = torch.eye(4, dtype=torch.float64)
    intrinsics[:2, :3] = torch.tensor([[40.0, 0.0, 32.0], [0.0, 40.0, 16.0]])
    return Batch(
        tokens=("a", "b"),
        maps={
            wanted.name: torch.randn(SAMPLES, *wanted.shape, generator=generator).half()
            for wanted in preset.maps
        },
        img_from_lidar=(intrinsics @ cam_from_lidar).expand(SAMPLES, -1, -1, -1),
        boxes_lidar=boxes,
        labels=labels,
    )
