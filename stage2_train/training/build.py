"""Train from a store: everything is checked and built here, then `Trainer` takes the steps."""

import dataclasses
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cache.reader import CachedFeatures
from shared.config.config_json import to_json
from shared.digests import state_digest
from shared.model.detector import CmtDetector
from shared.model.initial_detector import fresh_detector, load_checkpoint
from stage2_train.data.class_balance import class_balance
from stage2_train.data.dataset import StoreDataset
from stage2_train.data.loader import BatchLoader
from stage2_train.data.prefetch import Share, device_shares
from stage2_train.data.sampler import EpochSampler
from stage2_train.freezing.freeze_report import freeze_report, freeze_report_as_text
from stage2_train.freezing.freezing import absent_parts, freeze, require_trainable
from stage2_train.recipes.recipe import Recipe
from stage2_train.run.run_folder import RunFolder
from stage2_train.run.starting_point import StartingPoint, starting_point
from stage2_train.training.distributed import launch_fabric
from stage2_train.training.global_batch import Shares
from stage2_train.training.loss_step import LossStep
from stage2_train.training.optimizer import make_optimizer
from stage2_train.training.trainer import Trainer
from stage2_train.training.training_step import TrainingStep

log = logging.getLogger(__name__)

FREEZING = "freezing.json"


def train(
    store: CachedFeatures,
    recipe: Recipe,
    out: Path,
    *,
    checkpoint: Path | None = None,
    stop_after: int | None = None,
    workers: int = 0,
    devices: int = 1,
    nodes: int = 1,
) -> dict[str, float | None]:
    """Train necks and head from a store, or go on with the run that `out` holds.

    Everything random (dropout, order, denoising noise) is a function of the recipe's seed and the
    step, so a resumed run continues as if it had never stopped. On several devices it is the same
    run, but for what `whole_batch` says.

    Args:
        store: a complete store.
        recipe: hyper-parameters.
        out: run folder.
        checkpoint: official CMT checkpoint, or run of `train-stage2`, to start from; without one,
            seeded random weights.
        stop_after: stop after this many steps in all, earlier than the recipe says.
        workers: loader threads, for each device.
        devices: on each node; under torchrun, what it says counts.
        nodes: of the run.

    Returns:
        Steps in all; of the steps taken now, the first and last total loss and the seconds each
        took, None if there were none.

    Raises:
        CacheError: if the store is incomplete, or lacks null features that the recipe needs.
        CheckpointError: if the checkpoint does not fit the preset.
        ConfigError: if the recipe trains what the store has frozen, or freezes what is not there,
            or its batches cannot be shared by so many devices.
        FrozenError: if something frozen changes or would be trained.
        IdentityError: if the checkpoint belongs to other backbones than the store was made with.
        TrainingError: if a loss is not finite.
        InterruptedWorkError: on Ctrl-C or SIGTERM, with the run's state saved.
    """
    store.require_complete()
    require_trainable(recipe, store)
    start = None if checkpoint is None else starting_point(checkpoint, store)
    fabric, scaler = launch_fabric(recipe, devices=devices, nodes=nodes)
    detector = fresh_detector(store.preset, store.cut, seed=recipe.seed, aqr=recipe.aqr)
    if start is not None:
        load_checkpoint(detector, start.state, start.path)
    freeze(detector, recipe.frozen, absent=sorted(absent_parts(detector)))
    folder = RunFolder(out)
    is_first = fabric.global_rank == 0
    folder.start(_made_of(store, recipe, detector), writes=is_first)
    dataset = StoreDataset(store, store.tokens)
    if recipe.sensor_drop is not None:
        dataset.require_droppable(recipe.sensor_drop.possible)
    order = training_order(store, recipe)
    step = TrainingStep(
        fabric=fabric,
        recipe=recipe,
        module=LossStep(detector, store.preset),
        optimizer=make_optimizer(detector, recipe),
        steps=recipe.steps or (recipe.epochs or 0) * order.steps_per_epoch,
        scaler=scaler,
    )
    run = Trainer(step, folder, _about(store, recipe, start))
    run.resume()
    order.first_step = run.progress.step
    shares = _shares(dataset, order, step, workers)
    last = step.steps if stop_after is None else min(step.steps, stop_after)
    if is_first:
        _announce(store, run, last)
    return run.go(shares, last)


def _made_of(store: CachedFeatures, recipe: Recipe, detector: CmtDetector) -> dict[str, Any]:
    """Return what must not change when a run goes on."""
    return {
        "recipe": dataclasses.asdict(recipe),
        "preset": to_json(store.preset),
        "store": store.identity_digest,
        "starting weights": state_digest(detector.state_dict()),
    }


def _about(store: CachedFeatures, recipe: Recipe, start: StartingPoint | None) -> dict[str, Any]:
    """Return what every checkpoint of the run says of where it comes from."""
    return {
        "preset": to_json(store.preset),
        "aqr": None if recipe.aqr is None else to_json(recipe.aqr),
        "features": store.features_digest,
        "backbones": store.identity["weights"],
        "started_from": None if start is None else start.backbones,
    }


def training_order(store: CachedFeatures, recipe: Recipe) -> EpochSampler:
    """Return the order of the whole run's batches, from its first step on."""
    balance = class_balance(store, store.tokens) if recipe.class_balanced else None
    return EpochSampler(
        len(store.tokens),
        recipe.batch_size,
        recipe.seed,
        variants=store.variants,
        balance=balance,
        drop=recipe.sensor_drop,
    )


def _shares(
    dataset: StoreDataset, order: EpochSampler, step: TrainingStep, workers: int
) -> Iterator[Share]:
    """Return this process's endless stream of shares."""
    recipe, fabric = step.recipe, step.fabric
    own = Shares(
        order,
        order.batch_size,
        process=fabric.global_rank,
        processes=fabric.world_size,
        passes=recipe.accumulate,
    )
    batches = BatchLoader(dataset, own, workers)
    return device_shares(batches, recipe.accumulate, fabric.device)


def _announce(store: CachedFeatures, run: Trainer, last: int) -> None:
    """Say what will be trained and what is frozen, in the log and in the run folder."""
    step = run.one_step
    parts = freeze_report(run.detector, step.raw_optimizer)
    about = {"backbones, in the store": store.identity["weights"], "parts": parts}
    run.folder.write(FREEZING, json.dumps(about, indent=2))
    log.info(
        "training %s with recipe %s: %d samples, steps %d to %d, batch %d on %d devices\n%s",
        store.preset.name,
        step.recipe.name,
        len(store.tokens),
        run.progress.step,
        last,
        step.recipe.batch_size,
        step.fabric.world_size,
        freeze_report_as_text(parts),
    )
