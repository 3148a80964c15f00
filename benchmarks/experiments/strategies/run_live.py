"""Run one strategy that needs the backbones, in a process of its own."""

import sys
from pathlib import Path

from benchmarks.experiments.strategies.live_frames import LivePlaces, live_batches
from benchmarks.experiments.strategies.live_recipes import live_recipe
from benchmarks.experiments.strategies.live_training import (
    live_detector,
    records_of,
    require_same_source,
    train_live,
)
from benchmarks.experiments.strategies.measured_run import (
    BATCH_SIZE,
    Order,
    Spent,
    frozen_digests,
    held_out_scores,
    measured,
    write_result,
)
from cache.reader import CachedFeatures
from shared.process.command import run_command
from stage1_extract.backbones.weights import frozen_backbones
from stage1_extract.nuscenes.dataset_options import DatasetChoice
from stage1_extract.nuscenes.records import SampleRecord
from stage2_train.data.loader import evaluation_places


def recorded_samples(store: CachedFeatures, nuscenes: Path) -> list[SampleRecord]:
    """Return the records that a store was made from, without an info file."""
    choice = DatasetChoice(**{**store.provenance.dataset, "nuscenes": nuscenes, "infos": None})
    return records_of(store, choice.read())


def work() -> None:
    order = Order.read()
    store = CachedFeatures(order.store)
    records = recorded_samples(store, order.nuscenes)
    backbones, _ = frozen_backbones(store.preset, order.checkpoint)
    require_same_source(store, backbones, records)
    on_gpu = backbones.device.type == "cuda"
    recipe = order.shortened(live_recipe(order.strategy, with_sparse_encoder=on_gpu))
    detector = live_detector(store, backbones, recipe, checkpoint=order.start)
    before = frozen_digests(detector.state_dict(), recipe.frozen)
    spent = Spent()
    train_live(detector, store, records, recipe, order.out)
    result = spent.measured(order.steps)
    after = frozen_digests(detector.state_dict(), recipe.frozen)
    result |= measured(order.out, before=before, after=after)
    if order.held_out is not None:
        held_out = CachedFeatures(order.held_out)
        samples = LivePlaces(recorded_samples(held_out, order.nuscenes), held_out.preset, None)
        places = evaluation_places(len(held_out.tokens), BATCH_SIZE)
        result |= held_out_scores(order, held_out, detector, live_batches(samples, places))
    write_result(order, result)


if __name__ == "__main__":
    sys.exit(run_command(work))
