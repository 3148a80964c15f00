"""Run one strategy that needs the backbones, in a process of its own."""

import sys
from pathlib import Path

from benchmarks.experiments.strategies.features_in_memory import FeaturesInMemory
from benchmarks.experiments.strategies.live_detector import LiveDetector
from benchmarks.experiments.strategies.live_recipes import live_recipe
from benchmarks.experiments.strategies.live_training import (
    live_detector,
    records_of,
    require_same_source,
    train_live,
)
from benchmarks.experiments.strategies.measured_run import (
    Order,
    Spent,
    finish,
    frozen_digests,
    measured,
)
from cache.reader import CachedFeatures
from shared.model.detector import CmtDetector
from shared.process.command import run_command
from stage1_extract.backbones.frozen import FrozenBackbones
from stage1_extract.backbones.live import LiveFeatures
from stage1_extract.backbones.weights import frozen_backbones
from stage1_extract.nuscenes.dataset_options import DatasetChoice
from stage1_extract.nuscenes.records import SampleRecord


def recorded_samples(store: CachedFeatures, nuscenes: Path) -> list[SampleRecord]:
    """Return the records that a store was made from, without an info file."""
    choice = DatasetChoice(**{**store.provenance.dataset, "nuscenes": nuscenes, "infos": None})
    return records_of(store, choice.read())


def work() -> None:
    order = Order.read()
    store = CachedFeatures(order.store)
    records = recorded_samples(store, order.nuscenes)
    backbones, _ = frozen_backbones(store.preset, None)
    require_same_source(store, backbones, records)
    on_gpu = backbones.device.type == "cuda"
    recipe = order.shortened(live_recipe(order.strategy, with_sparse_encoder=on_gpu))
    detector = live_detector(store, backbones, recipe, checkpoint=order.start)
    before = frozen_digests(detector.state_dict(), recipe.frozen)
    spent = Spent()
    train_live(detector, store, records, recipe, order.out)
    found = spent.measured(order.steps)
    after = frozen_digests(detector.state_dict(), recipe.frozen)
    found |= measured(order.out, before=before, after=after)
    held_out = None
    if order.held_out is not None:
        held_out = live_held_out(order.held_out, order.nuscenes, backbones, detector)
    finish(order, found, head_of(detector), held_out)


def live_held_out(
    path: Path, nuscenes: Path, backbones: FrozenBackbones, detector: LiveDetector
) -> FeaturesInMemory:
    """Return the features that the backbones, trained or not, make of held-out samples."""
    detector.eval()
    store = CachedFeatures(path)
    return FeaturesInMemory(path, LiveFeatures(recorded_samples(store, nuscenes), backbones))


def head_of(detector: LiveDetector) -> CmtDetector:
    """Return what takes features, without the backbones."""
    return CmtDetector(
        detector.preset,
        detector.cut,
        img_neck=detector.img_neck,
        pts_neck=detector.pts_neck,
        pts_bbox_head=detector.pts_bbox_head,
    )


if __name__ == "__main__":
    sys.exit(run_command(work))
