"""Training steps on random features: no store is needed, and any preset will do."""

from dataclasses import replace

import torch
from torch import Tensor

from shared.config.preset import Preset
from shared.config.preset_catalogue import tiny
from shared.data.batch import Batch
from shared.model.initial_detector import fresh_detector
from stage2_train.freezing.freezing import eval_frozen, freeze
from stage2_train.recipes.recipe import Recipe
from stage2_train.training.distributed import launch_fabric
from stage2_train.training.global_batch import GlobalBatch
from stage2_train.training.loss_step import LossStep
from stage2_train.training.optimizer import make_optimizer
from stage2_train.training.queued_step import QueuedStep
from stage2_train.training.training_step import TrainingStep

FEATURE_SCALE = 0.5  # the features of real frames are ReLUs of about this size
CLASSES = 10


def small() -> Preset:
    """Return `tiny` with 12 x 12 BEV cells of 36 x 36, for float16.

    A CPU takes the backward pass of a convolution slowly in it: nine tenths of a step of `tiny`.
    """
    low, high = (-9.6, -9.6, -5.0), (9.6, 9.6, 3.0)
    grid = replace(tiny().grid, point_range_m=(*low, *high), sparse_shape=(41, 96, 96))
    return replace(tiny(), name="small", grid=grid)


def random_batch(preset: Preset, box_counts: tuple[int, ...], seed: int = 0) -> Batch:
    """Return a batch of the preset's shapes, with so many boxes in its samples."""
    generator = torch.Generator().manual_seed(seed)
    samples = len(box_counts)

    def features(shape: tuple[int, ...]) -> Tensor:
        return (torch.randn(shape, generator=generator).relu() * FEATURE_SCALE).half()

    return Batch(
        tokens=tuple(f"sample{i}" for i in range(samples)),
        maps={wanted.name: features((samples, *wanted.shape)) for wanted in preset.maps},
        img_from_lidar=_cameras(preset).expand(samples, -1, -1, -1).contiguous(),
        boxes_lidar=tuple(_boxes(count, preset, generator) for count in box_counts),
        labels=tuple(torch.randint(CLASSES, (n,), generator=generator) for n in box_counts),
        conditions=("all",) * samples,
    )


def _boxes(count: int, preset: Preset, generator: torch.Generator) -> Tensor:
    """Return (n, 9) boxes of cars' sizes all over the point range."""
    low, high = torch.tensor(preset.grid.point_range_m).view(2, 3)
    centres_m = low + torch.rand(count, 3, generator=generator) * (high - low)
    sizes_m = torch.tensor([4.5, 1.9, 1.6]) * (
        0.7 + 0.6 * torch.rand(count, 3, generator=generator)
    )
    rest = torch.randn(count, 3, generator=generator)  # yaw, vx, vy
    return torch.cat([centres_m, sizes_m, rest], dim=1)


def _cameras(preset: Preset) -> Tensor:
    """Return (6, 4, 4): cameras in a ring, that look 60 degrees apart along the ground."""
    assert preset.camera is not None
    height_px, width_px = preset.camera.height_px, preset.camera.width_px
    yaw = torch.arange(6, dtype=torch.float64) * torch.pi / 3
    zero, unit = torch.zeros_like(yaw), torch.ones_like(yaw)
    rows = [
        [yaw.sin(), -yaw.cos(), zero, zero],
        [zero, zero, -unit, zero],
        [yaw.cos(), yaw.sin(), zero, zero],
        [zero, zero, zero, unit],
    ]
    cam_from_lidar = torch.stack([torch.stack(row, -1) for row in rows], dim=-2)  # (6, 4, 4)
    intrinsics = torch.eye(4, dtype=torch.float64)
    focal_px = width_px * 0.8
    intrinsics[:2, :3] = torch.tensor(
        [[focal_px, 0.0, width_px / 2], [0.0, focal_px, height_px / 2]]
    )
    return intrinsics @ cam_from_lidar


def training_step(recipe: Recipe, preset: Preset, *, reads_late: bool) -> TrainingStep:
    """Return a step of a fresh detector, on the GPU if there is one."""
    fabric, scaler = launch_fabric(recipe)
    detector = fresh_detector(preset, seed=0, aqr=recipe.aqr)
    freeze(detector, recipe.frozen, absent=())
    step = TrainingStep(
        fabric=fabric,
        recipe=recipe,
        module=LossStep(detector, skips_overflow=scaler is not None),
        optimizer=make_optimizer(detector, recipe, is_fused=reads_late or scaler is not None),
        steps=1000,
        scaler=scaler,
        reads_late=reads_late,
    )
    step.module.train()
    eval_frozen(detector, recipe.frozen)
    step.clock.mark("save")
    return step


def take(step: TrainingStep, batch: Batch, index: int = 0) -> QueuedStep:
    """Queue a step on a single batch that is on the step's device."""
    counts = tuple(len(boxes) for boxes in batch.boxes_lidar)
    return step.take([batch], GlobalBatch(box_counts=counts), index)
