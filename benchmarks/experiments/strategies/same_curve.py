"""Whether training from a store follows the curve of training with the frozen backbones live.

    python -m benchmarks.experiments.strategies.same_curve runs/demo/train.zarr --nuscenes runs/demo/nuscenes
    python -m benchmarks.experiments.strategies.same_curve ... --recipe frozen_a --start runs/demo/run

Five runs of one recipe and seed: from the store (float16); from the same features in float32, kept
in memory; live; live with features rounded to float16; and, as a control, float32 with every
starting weight off by one rounding. The first and the fourth must have the same bits in every
scalar of every step, and so must the second and the third. Between float16 and float32 the curves
differ; by how much is measured, beside the control. Adds to benchmarks/results/same_curve.json.
"""

import argparse
import csv
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
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
from shared.errors import ParityError
from shared.process.command import run_command
from stage1_extract.backbones.live import LiveFeatures
from stage1_extract.backbones.weights import frozen_backbones
from stage1_extract.extraction.extraction_identity import draws_of
from stage1_extract.nuscenes.dataset_options import add_dataset_options, chosen_dataset
from stage1_extract.nuscenes.records import SampleRecord
from stage2_train.recipes.recipe import Recipe
from stage2_train.recipes.recipes import RECIPES, load_recipe
from stage2_train.run.training_log import LOG
from stage2_train.training.build import train

RECIPE = "demo"
STEPS = 50
BATCH_SIZE = 2
SAME_BITS = (("store", "live, rounded"), ("float32", "live"))
ONE_ROUNDING = 1 + 2**-23  # of float32
MARKS = (1, 5, 10, 20, 50)  # steps up to which the largest difference is told

Curve = list[dict[str, str]]


def curves(
    store: CachedFeatures,
    records: Sequence[SampleRecord],
    recipe: Recipe,
    folder: Path,
    start: Path | None = None,
) -> dict[str, Curve]:
    """Train five times; return the logs, every scalar of every step as written.

    Args:
        store: float16, extracted at batch size 1 with seeded backbones.
        records: of its samples.
        recipe: of all runs.
        folder: for the run folders.
        start: run or checkpoint whose head all start from.
    """
    backbones, _ = frozen_backbones(store.preset, None)
    require_same_source(store, backbones, records)
    draws = draws_of(store.preset, store.variants)
    exact = FeaturesInMemory(store.path, LiveFeatures(records_of(store, records), backbones, draws))
    train(store, recipe, folder / "store", checkpoint=start)
    train(exact, recipe, folder / "float32", checkpoint=start)
    as_live = live(recipe)
    for name, rounded in (("live", False), ("live, rounded", True)):
        backbones, _ = frozen_backbones(store.preset, None)
        detector = live_detector(store, backbones, as_live, checkpoint=start, rounded=rounded)
        if not rounded:
            _save_off_by_one_rounding(detector, folder / "control.pth")
        train_live(detector, store, records, as_live, folder / name)
    train(exact, recipe, folder / "control", checkpoint=folder / "control.pth")
    return {run.parent.name: _curve(run.parent) for run in sorted(folder.glob(f"*/{LOG}"))}


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


def gaps(one: Curve, other: Curve) -> dict[str, Any]:
    """Return how far the total loss of one curve is from another's, relative to that.

    Returns:
        `largest` up to each of `MARKS`, and `of_mean` of all steps.
    """
    steps = [abs(a - b) / b for a, b in zip(losses(one), losses(other), strict=True)]
    means = fmean(losses(one)), fmean(losses(other))
    return {
        "largest": {mark: max(steps[:mark]) for mark in MARKS if mark <= len(steps)},
        "of_mean": abs(means[0] - means[1]) / means[1],
    }


def comparison(found: Mapping[str, Curve]) -> dict[str, Any]:
    """Return what the five curves say."""
    return {
        "steps": len(found["store"]),
        "scalars_per_step": len(found["store"][0]) - 1,
        "same_bits": {f"{a} = {b}": found[a] == found[b] for a, b in SAME_BITS},
        "float16_to_float32": gaps(found["store"], found["float32"]),
        "control_to_float32": gaps(found["control"], found["float32"]),
        "loss": {name: losses(curve) for name, curve in found.items()},
    }


def write_comparison(store: CachedFeatures, title: str, found: Mapping[str, Any]) -> None:
    """Add a comparison to the results, or replace it there."""
    runs = json.loads(SAME_CURVE.read_text())["runs"] if SAME_CURVE.exists() else {}
    document = {
        "preset": store.preset.name,
        "samples": len(store.tokens),
        "variants": store.variants,
        "batch_size": BATCH_SIZE,
        "machine": machine(),
        "runs": runs | {title: found},
    }
    SAME_CURVE.write_text(json.dumps(document, indent=1) + "\n")


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and hand over."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.experiments.strategies.same_curve",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("store", type=Path, help="complete float16 store")
    add_dataset_options(parser)
    parser.add_argument("--recipe", default=RECIPE, choices=RECIPES, help=f"default {RECIPE}")
    parser.add_argument("--start", type=Path, help="run or checkpoint whose head all start from")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"default {STEPS}")
    args = parser.parse_args(argv)

    def work() -> None:
        store = CachedFeatures(args.store)
        records = chosen_dataset(args, store.provenance.dataset).read()
        recipe = replace(
            load_recipe(args.recipe), epochs=None, steps=args.steps, batch_size=BATCH_SIZE
        )
        with tempfile.TemporaryDirectory(prefix="same-curve-") as folder:
            found = comparison(curves(store, records, recipe, Path(folder), args.start))
        start = "a trained head" if args.start else "seeded weights"
        write_comparison(store, f"{recipe.name}, {start}", found)
        print(write_report())
        if not all(found["same_bits"].values()):
            raise ParityError(f"a cached curve differs from its live twin; see {SAME_CURVE}")

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
