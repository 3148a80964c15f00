"""Training with the backbones in every step: stage 2's own run, with other batches.

It joins both stages, so it belongs to neither.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks.experiments.strategies.live_detector import LiveDetector
from benchmarks.experiments.strategies.live_frames import LivePlaces, live_batches
from cache.format.identity import require_identity
from cache.reader import CachedFeatures
from shared.checkpoint.checkpoint_table import FROZEN_PARTS
from stage1_extract.backbones.frozen import FrozenBackbones
from stage1_extract.extraction.extraction_identity import draws_of, store_identity
from stage1_extract.nuscenes.records import SampleRecord
from stage2_train.data.training_batches import TrainingBatches
from stage2_train.freezing.freezing import freeze
from stage2_train.recipes.recipe import Recipe
from stage2_train.run.starting_point import starting_detector, starting_point
from stage2_train.training.assembly import train_batches
from stage2_train.training.build import training_order


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
    """Return the detector that `build.train` would start with, on top of its backbones.

    Args:
        store: whose samples it will be trained on.
        backbones: with their weights.
        recipe: says what is frozen, and the seed.
        checkpoint: as for `build.train`.
        rounded: see `LiveDetector`.
    """
    start = None if checkpoint is None else starting_point(checkpoint, store)
    head = starting_detector(store, recipe, start)
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
    """Train on raw files in the order in which `build.train` would read a store.

    Order, variants, absent sensors, denoising noise and dropout are the same functions of seed and
    step.

    Args:
        detector: of `live_detector`.
        store: says the samples, their order and their variants; its features are not read.
        records: of the store's samples.
        recipe: as for a store; `frozen` may name backbones.
        out: run folder.
        workers: processes that load raw files.

    Returns: as `assembly.train_batches`.
    """
    draws = draws_of(store.preset, store.variants)
    places = LivePlaces(records_of(store, records), store.preset, draws)
    batches = TrainingBatches(
        order=partial(training_order, store, recipe),
        load=partial(live_batches, places, workers=workers),
    )
    return train_batches(batches, detector, recipe, out, samples=store.identity_digest, origin={})


def require_same_source(
    store: CachedFeatures,
    backbones: FrozenBackbones,
    records: Sequence[SampleRecord],
) -> None:
    """Check that a store holds what these backbones make of these records.

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
    require_identity(store.path, store.identity, identity)
