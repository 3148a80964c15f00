"""The same recipe from the store, with live frozen backbones, and with backbones in training.

Raw input is random: images, and voxels that are denser near the car. It is in memory, so live
training gets loading and voxelising for free here. No sensor is left out.
"""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from benchmarks.speed.gpu.cases import Cases, Row
from benchmarks.speed.gpu.section_request import SectionRequest
from benchmarks.speed.gpu.step_probe import StepProbe
from benchmarks.speed.gpu.steps_section import stretches
from benchmarks.speed.gpu.training_case import (
    run_training,
    short_recipe,
    store_batches,
    store_detector,
)
from cache.reader import CachedFeatures
from shared.config.preset import Preset
from shared.data.batch import Batch
from stage2_train.data.loader import default_workers
from stage2_train.data.sampler import Place

STRATEGIES = ("frozen_a", "live_frozen_a", "finetune")
BATCH_SIZES = {"r50_800x320": 16, "vov_1600x640": 4}
OTHER_BATCH_SIZE = 2
VOXELS = 60_000  # of a sample, about what ten sweeps of nuScenes fill
QUICK_VOXELS = 500


def measure_live(request: SectionRequest, cases: Cases) -> None:
    """Measure the three strategies; live ones need mmdet3d and spconv."""
    store = CachedFeatures(request.store)
    batch_size = BATCH_SIZES.get(store.preset.name, OTHER_BATCH_SIZE)
    if request.is_quick:
        batch_size = OTHER_BATCH_SIZE
    for strategy in STRATEGIES:
        about = {"strategy": strategy, "batch": batch_size, "precision": request.precision}
        measure = _from_store if strategy == "frozen_a" else partial(_live, strategy)
        cases.run(about, partial(measure, request, store, batch_size))


def _from_store(request: SectionRequest, store: CachedFeatures, batch_size: int) -> Row:
    recipe = short_recipe("frozen_a", batch_size, request.precision, sensor_drop=None)
    probe, out = StepProbe(stretches(request.is_quick)), request.scratch / "live_store"
    load: Any = partial(store_batches, store, workers=default_workers())
    return run_training(store, store_detector(store, recipe), recipe, out, probe, load)


def _live(strategy: str, request: SectionRequest, store: CachedFeatures, batch_size: int) -> Row:
    # Imported here: a machine that only trains has neither mmdet3d nor spconv.
    from benchmarks.experiments.strategies.live_recipes import live_recipe
    from benchmarks.experiments.strategies.live_training import live_detector
    from stage1_extract.backbones.weights import frozen_backbones

    on_gpu = torch.cuda.is_available()
    preset = store.preset
    backbones, _ = frozen_backbones(preset, None)
    same = short_recipe("frozen_a", batch_size, request.precision, sensor_drop=None)
    strategy_recipe = live_recipe(strategy, with_sparse_encoder=on_gpu)
    recipe = replace(
        same,
        name=strategy_recipe.name,
        frozen=strategy_recipe.frozen,
        lr_multipliers=strategy_recipe.lr_multipliers,
    )
    detector = live_detector(store, backbones, recipe)
    probe, out = StepProbe(stretches(request.is_quick)), request.scratch / strategy
    raw = random_input(preset, batch_size, QUICK_VOXELS if request.is_quick else VOXELS)
    load = partial(_raw_batches, store, raw, batch_size)
    return run_training(store, detector, recipe, out, probe, load)


def _raw_batches(
    store: CachedFeatures, raw: dict[str, torch.Tensor], batch_size: int, _: Any
) -> Iterator[Batch]:
    """Repeat the geometry and boxes of the first samples with random input instead of maps."""
    places = [Place(0, number % len(store.tokens)) for number in range(batch_size)]
    batch = next(store_batches(store, itertools.repeat(places), 0))
    yield from itertools.repeat(replace(batch, maps=raw, quantised={}))


def random_input(preset: Preset, samples: int, voxels: int) -> dict[str, torch.Tensor]:
    """Return images and voxels of a batch, under the names that a `LiveDetector` reads."""
    generator = torch.Generator().manual_seed(0)
    raw: dict[str, torch.Tensor] = {}
    if preset.camera is not None:
        camera = preset.camera
        views = preset.camera_maps[0].shape[0]
        shape = (samples, views, 3, camera.height_px, camera.width_px)
        raw["images"] = torch.randn(shape, generator=generator)
    if preset.lidar is not None:
        coordinates = torch.cat(
            [_coordinates(preset, voxels, number, generator) for number in range(samples)]
        )
        most = preset.lidar.max_points_per_voxel
        low, high = (torch.tensor(preset.grid.point_range_m[side : side + 3]) for side in (0, 3))
        points = torch.rand(len(coordinates), most, 5, generator=generator)
        points[..., :3] = low + points[..., :3] * (high - low)
        counts = torch.randint(1, 4, (len(coordinates),), generator=generator, dtype=torch.int32)
        points *= torch.arange(most)[:, None] < counts[:, None, None]
        raw |= {"points": points, "coordinates": coordinates, "counts": counts}
    if torch.cuda.is_available():
        raw = {name: values.pin_memory() for name, values in raw.items()}
    return raw


def _coordinates(
    preset: Preset, count: int, number: int, generator: torch.Generator
) -> torch.Tensor:
    """Return (M, 4) int32 batch index, z, y, x of distinct voxels, denser towards the middle."""
    sides = torch.tensor(preset.grid.sparse_shape)
    radius, height = torch.rand(2, count, generator=generator) ** 2
    angle = torch.rand(count, generator=generator) * 2.0 * torch.pi
    across = [0.5 + 0.49 * radius * turned for turned in (angle.sin(), angle.cos())]
    cells = (torch.stack([height, *across], dim=1) * sides).long().unique(dim=0).int()
    return torch.nn.functional.pad(cells, (1, 0), value=number)
