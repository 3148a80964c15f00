"""Does training from a store follow the curve of training with live frozen backbones?

    SAME_CURVE="python -m benchmarks.experiments.strategies.same_curve runs/demo/train.zarr"
    $SAME_CURVE --nuscenes runs/demo/nuscenes --checkpoint tiny
    $SAME_CURVE ... --recipe frozen_a --start tiny

Five runs of one recipe and seed: from the store (float16); from the same features in float32, held
in memory; live; live with features rounded to float16; and, as a control, float32 with every
starting weight off by one rounding. The first and the fourth must have the same bits in every
scalar of every step, and so must the second and the third. Between float16 and float32 the curves
differ; by how much is measured, next to the control. Adds to benchmarks/results/same_curve.json.
"""

import csv
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from benchmarks.experiments.strategies.features_in_memory import FeaturesInMemory
from benchmarks.experiments.strategies.live_detector import LiveDetector
from benchmarks.experiments.strategies.live_recipes import live
from benchmarks.experiments.strategies.live_training import (
    live_detector,
    records_of,
    require_same_source,
    train_live,
)
from benchmarks.experiments.strategies.report import SAME_CURVE, machine, write_report
from cache.reader import CachedFeatures
from shared.checkpoint.checkpoint_table import FROZEN_PARTS, belongs
from shared.checkpoint.shipped_checkpoint import TINY, TINY_FILE, checkpoint_path
from shared.errors import ParityError
from shared.process.command import command_parser, run_command
from stage1_extract.backbones.live import LiveFeatures
from stage1_extract.backbones.weights import frozen_backbones
from stage1_extract.extraction.extraction_identity import draws_of
from stage1_extract.nuscenes.dataset_options import add_dataset_options, chosen_dataset
from stage1_extract.nuscenes.records import SampleRecord
from stage2_train.data.dataset import StoreDataset
from stage2_train.data.loader import BatchLoader
from stage2_train.data.training_batches import TrainingBatches
from stage2_train.freezing.freezing import absent_parts, freeze
from stage2_train.recipes.recipe import Recipe
from stage2_train.recipes.recipes import RECIPES, load_recipe
from stage2_train.run.run_files import LOG
from stage2_train.run.starting_point import starting_detector, starting_point
from stage2_train.training.assembly import train_batches
from stage2_train.training.build import train, training_order

RECIPE = "tiny_from_scratch"
STEPS = 50
BATCH_SIZE = 2
SAME_BITS = (("store", "live, rounded"), ("float32", "live"))
ONE_ROUNDING = 1 + 2**-23  # of float32
MARKS = (1, 5, 10, 20, 50)  # steps up to which the largest difference is reported

Curve = list[dict[str, str]]


def curves(
    store: CachedFeatures,
    records: Sequence[SampleRecord],
    recipe: Recipe,
    folder: Path,
    *,
    checkpoint: Path | None = None,
    start: Path | None = None,
) -> dict[str, Curve]:
    """Train five times; return the logs, every scalar of every step as written.

    Variants are not combined, since bits are compared: matrices of combined stored variants are
    composed, those of live ones are not, which may differ in the last bit.

    Args:
        store: float16, extracted at batch size 1.
        records: of its samples.
        recipe: of all runs.
        folder: for the run folders.
        checkpoint: that the store was made with; None is seeded backbones.
        start: run or checkpoint whose head all start from.
    """
    recipe = replace(recipe, variants_per_sensor=False)
    backbones, _ = frozen_backbones(store.preset, checkpoint)
    require_same_source(store, backbones, records)
    draws = draws_of(store.preset, store.variants)
    exact = FeaturesInMemory(LiveFeatures(records_of(store, records), backbones, draws))
    train(store, recipe, folder / "store", checkpoint=start)
    _train_exact(exact, store, recipe, folder / "float32", start)
    as_live = live(recipe)
    for name, rounded in (("live", False), ("live, rounded", True)):
        backbones, _ = frozen_backbones(store.preset, checkpoint)
        detector = live_detector(store, backbones, as_live, checkpoint=start, rounded=rounded)
        if not rounded:
            _save_off_by_one_rounding(detector, folder / "control.pth")
        train_live(detector, store, records, as_live, folder / name)
    _train_exact(exact, store, recipe, folder / "control", folder / "control.pth")
    return {run.parent.name: _curve(run.parent) for run in sorted(folder.glob(f"*/{LOG}"))}


def _train_exact(
    features: FeaturesInMemory, store: CachedFeatures, recipe: Recipe, out: Path, start: Path | None
) -> None:
    """Train as `build.train` does from the store, but from these features of its samples."""
    point = None if start is None else starting_point(start, store)
    detector = starting_detector(store, recipe, point)
    freeze(detector, recipe.frozen, absent=sorted(absent_parts(detector)))
    batches = TrainingBatches(
        order=partial(training_order, store, recipe),
        load=partial(BatchLoader, StoreDataset(features, store.tokens), workers=0),
    )
    train_batches(batches, detector, recipe, out, samples=store.identity_digest, origin={})


def _save_off_by_one_rounding(detector: LiveDetector, file: Path) -> None:
    """Write the trainable detector's weights, every parameter off by one rounding of float32."""
    parameters = {name for name, _ in detector.named_parameters()}
    state = {
        name: values * ONE_ROUNDING if name in parameters else values
        for name, values in detector.state_dict().items()
        if not belongs(name, FROZEN_PARTS)
    }
    torch.save({"state_dict": state}, file)


def _curve(run: Path) -> Curve:
    with (run / LOG).open(newline="") as handle:
        return list(csv.DictReader(handle))


def losses(curve: Curve) -> list[float]:
    """Return the total loss of every step."""
    return [float(row["loss"]) for row in curve]


def gaps(curve: Curve, reference: Curve) -> dict[str, Any]:
    """Return how far the total loss of a curve is from that of a reference, relative to it.

    Returns:
        `largest` up to each of `MARKS`, and `of_mean` of all steps.
    """
    steps = [abs(a - b) / b for a, b in zip(losses(curve), losses(reference), strict=True)]
    means = fmean(losses(curve)), fmean(losses(reference))
    return {
        "largest": {mark: max(steps[:mark]) for mark in MARKS if mark <= len(steps)},
        "of_mean": abs(means[0] - means[1]) / means[1],
    }


def comparison(curve_of: Mapping[str, Curve]) -> dict[str, Any]:
    """Return what the five curves show."""
    return {
        "steps": len(curve_of["store"]),
        "scalars_per_step": len(curve_of["store"][0]) - 1,
        "same_bits": {f"{a} = {b}": curve_of[a] == curve_of[b] for a, b in SAME_BITS},
        "float16_to_float32": gaps(curve_of["store"], curve_of["float32"]),
        "control_to_float32": gaps(curve_of["control"], curve_of["float32"]),
        "loss": {name: losses(curve) for name, curve in curve_of.items()},
    }


def write_comparison(store: CachedFeatures, title: str, compared: Mapping[str, Any]) -> None:
    """Add a comparison to the results, or replace an earlier one."""
    runs = json.loads(SAME_CURVE.read_text())["runs"] if SAME_CURVE.exists() else {}
    document = {
        "preset": store.preset.name,
        "samples": len(store.tokens),
        "variants": store.variants,
        "batch_size": BATCH_SIZE,
        "machine": machine(),
        "runs": runs | {title: compared},
    }
    SAME_CURVE.write_text(json.dumps(document, indent=1) + "\n")


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and hand over."""
    parser = command_parser(__doc__, "python -m benchmarks.experiments.strategies.same_curve")
    parser.add_argument("store", type=Path, help="complete float16 store")
    add_dataset_options(parser)
    parser.add_argument("--recipe", default=RECIPE, choices=RECIPES, help=f"default {RECIPE}")
    parser.add_argument(
        "--checkpoint", type=checkpoint_path, help="that the store was made with, if with one"
    )
    parser.add_argument(
        "--start", type=checkpoint_path, help="run or checkpoint whose head all start from"
    )
    parser.add_argument("--steps", type=int, default=STEPS, help=f"default {STEPS}")
    args = parser.parse_args(argv)

    def work() -> None:
        store = CachedFeatures(args.store)
        records = chosen_dataset(args, store.provenance.dataset).read()
        recipe = replace(
            load_recipe(args.recipe), epochs=None, steps=args.steps, batch_size=BATCH_SIZE
        )
        with tempfile.TemporaryDirectory(prefix="same-curve-") as folder:
            places = {"checkpoint": args.checkpoint, "start": args.start}
            compared = comparison(curves(store, records, recipe, Path(folder), **places))
        start = "seeded weights" if args.start is None else "a trained head"
        if args.start == TINY_FILE:
            start = f"checkpoint {TINY}"
        write_comparison(store, f"{recipe.name}, {start}", compared)
        print(write_report())
        if not all(compared["same_bits"].values()):
            raise ParityError(f"a cached curve differs from its live twin; see {SAME_CURVE}")

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
