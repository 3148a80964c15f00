"""Stage 2's own training, run for a few steps under a probe."""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.speed.gpu.cases import Row
from benchmarks.speed.gpu.step_probe import StepProbe
from cache.reader import CachedFeatures
from shared.data.batch import Batch
from shared.model.detector import CmtDetector
from stage2_train.data.dataset import StoreDataset
from stage2_train.data.loader import BatchLoader
from stage2_train.data.sampler import Place
from stage2_train.data.training_batches import TrainingBatches
from stage2_train.freezing.freezing import absent_parts, freeze
from stage2_train.recipes.recipe import Recipe
from stage2_train.recipes.recipes import load_recipe
from stage2_train.run.run_files import TIMING
from stage2_train.run.starting_point import starting_detector
from stage2_train.training.assembly import train_batches
from stage2_train.training.build import training_order

Load = Callable[[Iterable[Sequence[Place]]], Iterable[Batch]]

LONG = 10_000  # steps of the schedule, and between checkpoints: more than any run here takes


def short_recipe(name: str, batch_size: int, precision: str, **changes: Any) -> Recipe:
    """Return a recipe as it is, except for its length, batch size, precision and what is named."""
    recipe = load_recipe(name)
    return replace(
        recipe,
        batch_size=batch_size,
        precision=precision,
        epochs=None,
        steps=LONG,
        checkpoint_every=LONG,
        **changes,
    )


def store_detector(store: CachedFeatures, recipe: Recipe) -> CmtDetector:
    """Return the detector that `train-stage2` would train, from seeded weights."""
    detector = starting_detector(store, recipe, None)
    freeze(detector, recipe.frozen, absent=sorted(absent_parts(detector)))
    return detector


def store_batches(
    store: CachedFeatures, places: Iterable[Sequence[Place]], workers: int
) -> Iterator[Batch]:
    """Return batches of a store through the loader of `train-stage2`."""
    return iter(BatchLoader(StoreDataset(store, store.tokens), places, workers))


def train_briefly(
    store: CachedFeatures, detector: CmtDetector, recipe: Recipe, out: Path, load: Load, steps: int
) -> None:
    """Train for a few steps as `train-stage2` does, on batches from anywhere.

    Args:
        store: says the order of samples.
        detector: to train; what the recipe freezes is frozen.
        recipe: of the run.
        out: run folder; there must be nothing.
        load: returns the batches of places.
        steps: to take.
    """
    train_batches(
        TrainingBatches(order=partial(training_order, store, recipe), load=load),
        detector,
        recipe,
        out,
        samples=store.identity_digest,
        origin={"features": None, "backbones": None, "started_from": None},
        stop_after=steps,
    )


def run_training(
    store: CachedFeatures,
    detector: CmtDetector,
    recipe: Recipe,
    out: Path,
    probe: StepProbe,
    load: Load,
) -> Row:
    """Train as long as the probe needs; return what it measured. Arguments as above."""
    probe.watch(detector)
    try:
        train_briefly(
            store, detector, recipe, out, lambda places: probe.feed(load(places)), probe.steps
        )
    finally:
        probe.close()
    return probe.result(recipe.batch_size) | {"pieces_s": _pieces(out / TIMING, probe)}


def _pieces(file: Path, probe: StepProbe) -> dict[str, float]:
    """Return the mean seconds of each piece of a step, in the steps without loading.

    The log ends the forward pass after losses and matching. The probe knows when the detector's own
    forward ended; the rest is theirs, unless the log has them already.
    """
    with file.open(newline="") as handle:
        rows = list(csv.DictReader(handle))[probe.without_loading]
    if not rows:
        return {}
    names = [name for name in rows[0] if name.startswith("seconds/")]
    pieces = {
        name.removeprefix("seconds/"): sum(float(row[name]) for row in rows) / len(rows)
        for name in names
    }
    detector_s = probe.detector_s()
    if "losses" not in pieces and "forward" in pieces and detector_s is not None:
        pieces |= {"forward": detector_s, "losses": pieces["forward"] - detector_s}
    return pieces
