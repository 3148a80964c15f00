"""Training with the backbones in every step: stage 2's own step, loop and order, other batches.

This joins both stages, so it is no part of either.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.experiments.strategies.live_detector import LiveDetector
from benchmarks.experiments.strategies.live_frames import LivePlaces, live_batches
from cache.format.identity import check_identity
from cache.reader import CachedFeatures
from shared.checkpoint.checkpoint_table import FROZEN_PARTS
from shared.config.config_json import to_json
from shared.model.initial_detector import fresh_detector, load_checkpoint
from stage1_extract.backbones.frozen import FrozenBackbones
from stage1_extract.extraction.extraction_identity import draws_of, store_identity
from stage1_extract.nuscenes.records import SampleRecord
from stage2_train.data.prefetch import device_shares
from stage2_train.freezing.freeze_report import freeze_report
from stage2_train.freezing.freezing import freeze
from stage2_train.recipes.recipe import Recipe
from stage2_train.run.run_folder import RunFolder
from stage2_train.run.starting_point import starting_point
from stage2_train.training.build import FREEZING, training_order
from stage2_train.training.distributed import launch_fabric
from stage2_train.training.global_batch import Shares
from stage2_train.training.loss_step import LossStep
from stage2_train.training.optimizer import make_optimizer
from stage2_train.training.trainer import Trainer
from stage2_train.training.training_step import TrainingStep


def records_of(store: CachedFeatures, records: Sequence[SampleRecord]) -> list[SampleRecord]:
    """Return the records of a store's samples, in its order."""
    by_token = {record.token: record for record in records}
    return [by_token[token] for token in store.tokens]


def live_detector(
    store: CachedFeatures,
    backbones: FrozenBackbones,
    recipe: Recipe,
    *,
    checkpoint: Path | None = None,
    rounded: bool = False,
) -> LiveDetector:
    """Return the detector that `stage2_train.training.build.train` would begin with, on its backbones.

    Args:
        store: whose samples it will be trained on.
        backbones: with their weights.
        recipe: says what is frozen, and the seed.
        checkpoint: as for `stage2_train.training.build.train`.
        rounded: see `LiveDetector`.
    """
    head = fresh_detector(store.preset, store.cut, seed=recipe.seed, aqr=recipe.aqr)
    if checkpoint is not None:
        start = starting_point(checkpoint, store)
        load_checkpoint(head, start.state, start.path)
    detector = LiveDetector(backbones, head, rounded=rounded)
    absent = sorted(set(FROZEN_PARTS) - set(backbones.parts))
    freeze(detector, recipe.frozen, absent=absent)
    return detector


def train_live(
    detector: LiveDetector,
    store: CachedFeatures,
    records: Sequence[SampleRecord],
    recipe: Recipe,
    out: Path,
    *,
    workers: int = 0,
) -> dict[str, float | None]:
    """Train on raw files in the order in which `stage2_train.training.build.train` would take a store.

    Order, variants, absent sensors, denoising noise and dropout are the same functions of seed and
    step. There is no resuming.

    Args:
        detector: of `live_detector`.
        store: says the samples, their order and their variants; its features are not read.
        records: of the store's samples.
        recipe: as for a store; `frozen` may name backbones.
        out: run folder, which must be new.
        workers: processes that load raw files.

    Returns: as `stage2_train.training.build.train`.

    Raises:
        IdentityError: if the store was not made from these records.
    """
    draws = draws_of(store.preset, store.variants)
    fabric, scaler = launch_fabric(recipe)
    folder = RunFolder(out)
    folder.start({"recipe": dataclasses.asdict(recipe), "store": store.identity_digest})
    order = training_order(store, recipe)
    step = TrainingStep(
        fabric=fabric,
        recipe=recipe,
        module=LossStep(detector, store.preset),
        optimizer=make_optimizer(detector, recipe),
        steps=recipe.steps or (recipe.epochs or 0) * order.steps_per_epoch,
        scaler=scaler,
    )
    parts = freeze_report(detector, step.raw_optimizer)
    folder.write(FREEZING, json.dumps({"parts": parts}, indent=2))
    shares = Shares(order, order.batch_size, process=0, processes=1, passes=recipe.accumulate)
    places = LivePlaces(records_of(store, records), store.preset, draws)
    batches = live_batches(places, shares, workers)
    run = Trainer(step, folder, {"preset": to_json(store.preset)})
    return run.go(device_shares(batches, recipe.accumulate, fabric.device), step.steps)


def require_same_source(
    store: CachedFeatures,
    backbones: FrozenBackbones,
    records: Sequence[SampleRecord],
) -> None:
    """Make sure that a store holds what these backbones make of these records.

    Raises:
        IdentityError: naming what differs.
    """
    identity = store_identity(
        backbones,
        records_of(store, records),
        store.identity["dataset"]["version"],
        value_format=store.identity["value_format"],
        variants=store.variants,
    )
    check_identity(store.path, identity)
