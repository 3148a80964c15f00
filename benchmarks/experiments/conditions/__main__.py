"""AQR trained under conditions, against CMT trained under them, and against AQR trained clean.

    python -m benchmarks.experiments.conditions --checkpoint tiny.pth --out runs/conditions

Extracts `tiny` on the synthetic set with the backbones of the checkpoint, and delta stores of the
conditions; trains every recipe of `condition_recipes` from the checkpoint with every seed, and
judges it under all severities of the conditions, those it was not trained under included. The same
command continues what was interrupted. Writes benchmarks/results/conditions.json and prints tables.
"""

import json
import sys
from pathlib import Path

from benchmarks.console_scripts import run_console_script
from benchmarks.experiments.conditions import condition_recipes
from benchmarks.experiments.conditions.condition_recipes import COMPARED, CONDITIONS
from benchmarks.experiments.conditions.seed_table import Scores, scores_of, seed_tables
from shared.process.command import command_parser

RESULTS = Path("benchmarks/results/conditions.json")
VERSION = "v1.0-mini"
SPLITS = {"train": "mini_train", "val": "mini_val"}
TRAINED = tuple(name for name, _ in CONDITIONS)
JUDGED = (
    *("beams-16-even", "beams-8-even", "beams-4-even"),
    *("cameras-20", "cameras-40", "cameras-60"),
    *("dark-1", "dark-2", "dark-3"),
)


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, then prepare, train, judge and report."""
    parser = command_parser(__doc__, "python -m benchmarks.experiments.conditions")
    parser.add_argument("--out", type=Path, default=Path("runs/conditions"))
    parser.add_argument("--checkpoint", type=Path, required=True, help="of the preset tiny")
    parser.add_argument("--nuscenes", type=Path, help="synthetic set; generated without it")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args(argv)
    data = args.nuscenes or args.out / "nuscenes"
    if args.nuscenes is None:
        run_console_script("python", "-m", "shared.synthetic_nuscenes", data)
    for split, conditions in (("train", TRAINED), ("val", JUDGED)):
        extract(args.out, data, args.checkpoint, split, conditions)
    start = judged(args.out, data, args.checkpoint, args.out / "checkpoint")
    runs: dict[str, list[Scores]] = {name: [] for name in COMPARED}
    for seed in range(args.seeds):  # all recipes of a seed first: an early stop compares them
        for name in COMPARED:
            run = trained(args.out, args.checkpoint, name, seed)
            runs[name].append(judged(args.out, data, run, run / "val"))
        report(start, runs)
    return 0


def extract(
    out: Path, data: Path, checkpoint: Path, split: str, conditions: tuple[str, ...]
) -> None:
    """Write a clean store and its delta stores, or finish them."""
    where = ("--nuscenes", data, "--version", VERSION, "--split", SPLITS[split])
    base = out / f"{split}.zarr"
    command = ("extract-features", "tiny", *where, "--checkpoint", checkpoint)
    run_console_script(*command, "--store", base)
    for name in conditions:
        delta = out / f"{split}.{name}.zarr"
        run_console_script(*command, "--condition", name, "--base", base, "--store", delta)


def trained(out: Path, checkpoint: Path, name: str, seed: int) -> Path:
    """Train a recipe with a seed, or finish that; return the run."""
    run = out / f"{name}_{seed}"
    recipe = f"{condition_recipes.__file__}:{name}"
    deltas = [out / f"train.{condition}.zarr" for condition in TRAINED]
    if not (run / "val" / "conditions.json").exists():
        run_console_script(
            *("train-stage2", out / "train.zarr", "--out", run, "--recipe", recipe),
            *("--checkpoint", checkpoint, "--seed", seed),
            *(("--conditions", *deltas) if COMPARED[name]().conditions else ()),
        )
    return run


def judged(out: Path, data: Path, detector: Path, folder: Path) -> Scores:
    """Judge a detector under every condition, unless that has been done."""
    if not (folder / "conditions.json").exists():
        run_console_script(
            *("evaluate-stage2", out / "val.zarr", detector, "--out", folder, "--nuscenes", data),
            *("--plot", 0, "--conditions", *(out / f"val.{name}.zarr" for name in JUDGED)),
        )
    return scores_of(folder)


def report(start: Scores, runs: dict[str, list[Scores]]) -> None:
    """Write the results of the seeds so far, and print them as tables."""
    document = {"trained under": dict(CONDITIONS), "checkpoint": start, "runs": runs}
    RESULTS.write_text(json.dumps(document, indent=1) + "\n")
    print(seed_tables({"checkpoint": [start], **runs}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
