"""Whether training from a store follows the curve of training with the frozen backbones live.

    python -m benchmarks.strategies.same_curve runs/demo/train.zarr --nuscenes runs/demo/nuscenes

Four runs of one recipe and seed: from the store (float16); from the same features in float32, kept
in memory; live; and live with features rounded to float16. The first and the last must have the
same bits in every loss of every step, and so must the second and the third. Between float16 and
float32 the curves differ; by how much is measured. Writes benchmarks/results/same_curve.json.
"""

import argparse
import csv
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.strategies.features_in_memory import FeaturesInMemory
from benchmarks.strategies.live_recipes import live
from benchmarks.strategies.live_training import (
    live_detector,
    records_of,
    require_same_source,
    train_live,
)
from cache.reader import CachedFeatures
from shared.command import run_command
from shared.errors import ParityError
from stage1_extract.dataset_options import add_dataset_options, chosen_dataset
from stage1_extract.identity import draws_of
from stage1_extract.live import LiveFeatures
from stage1_extract.records import SampleRecord
from stage1_extract.weights import frozen_backbones
from stage2_train.loop import train
from stage2_train.recipes import Recipe, load_recipe
from stage2_train.training_log import LOG

RESULTS = Path("benchmarks/results/same_curve.json")
RECIPES = ("frozen_a", "demo")
STEPS = 60
BATCH_SIZE = 2
SAME_BITS = (("store", "live, rounded to float16"), ("float32 in memory", "live"))
MARKS = (1, 10, 30, 60)  # steps whose largest difference so far is told

Curve = list[dict[str, str]]


def curves(
    store: CachedFeatures, records: Sequence[SampleRecord], recipe: Recipe, folder: Path
) -> dict[str, Curve]:
    """Train four times; return the logs, every scalar of every step as written.

    Args:
        store: float16, extracted at batch size 1 with seeded backbones.
        records: of its samples.
        recipe: of all runs.
        folder: for the run folders.
    """
    backbones, _ = frozen_backbones(store.preset, None)
    require_same_source(store, backbones, records)
    source = LiveFeatures(
        records_of(store, records), backbones, draws_of(store.preset, store.views)
    )
    train(store, recipe, folder / "store")
    train(FeaturesInMemory(store.path, source), recipe, folder / "float32 in memory")
    as_live = live(recipe)
    for name, rounded in (("live", False), ("live, rounded to float16", True)):
        backbones, _ = frozen_backbones(store.preset, None)
        detector = live_detector(store, backbones, as_live, rounded=rounded)
        train_live(detector, store, records, as_live, folder / name)
    names = [name for pair in SAME_BITS for name in pair]
    return {name: _curve(folder / name) for name in names}


def _curve(run: Path) -> Curve:
    with (run / LOG).open(newline="") as handle:
        return list(csv.DictReader(handle))


def losses(curve: Curve) -> list[float]:
    """Return the total loss of every step."""
    return [float(row["loss"]) for row in curve]


def largest_gaps(one: Curve, other: Curve, marks: Sequence[int] = MARKS) -> dict[int, float]:
    """Return the largest relative difference of the total loss, up to each of these steps."""
    gaps = [abs(a - b) / abs(b) for a, b in zip(losses(one), losses(other), strict=True)]
    return {mark: max(gaps[:mark]) for mark in marks if mark <= len(gaps)}


def comparison(found: Mapping[str, Curve]) -> dict[str, Any]:
    """Return what the four curves say."""
    return {
        "steps": len(found["store"]),
        "scalars_per_step": len(found["store"][0]) - 1,
        "same_bits": {f"{a} = {b}": found[a] == found[b] for a, b in SAME_BITS},
        "largest_relative_difference_float16_to_float32": largest_gaps(
            found["store"], found["live"]
        ),
        "loss": {name: losses(curve) for name, curve in found.items()},
    }


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and hand over."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.strategies.same_curve",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("store", type=Path, help="complete float16 store")
    add_dataset_options(parser)
    parser.add_argument("--steps", type=int, default=STEPS, help=f"default {STEPS}")
    parser.add_argument("--json", type=Path, default=RESULTS, help=f"default {RESULTS}")
    args = parser.parse_args(argv)

    def work() -> None:
        store = CachedFeatures(args.store)
        records = chosen_dataset(args, store.provenance.dataset).read()
        document: dict[str, Any] = {
            "preset": store.preset.name,
            "samples": len(store.tokens),
            "views": store.views,
            "batch_size": BATCH_SIZE,
            "device": str(frozen_backbones(store.preset, None)[0].device),
            "cores": os.cpu_count(),
            "recipes": {},
        }
        for name in RECIPES:
            recipe = replace(
                load_recipe(name), epochs=None, steps=args.steps, batch_size=BATCH_SIZE
            )
            with tempfile.TemporaryDirectory(prefix="same-curve-") as folder:
                found = comparison(curves(store, records, recipe, Path(folder)))
            document["recipes"][name] = found
            print(json.dumps({name: {k: v for k, v in found.items() if k != "loss"}}, indent=1))
        args.json.write_text(json.dumps(document, indent=1) + "\n")
        if not all(all(one["same_bits"].values()) for one in document["recipes"].values()):
            raise ParityError("a cached curve differs from its live twin; see the JSON")

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
