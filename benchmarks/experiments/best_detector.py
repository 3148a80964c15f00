"""Which step of a run is the best detector: by training loss, validation loss, mAP and NDS.

    make demo                                                   # writes data and stores
    python -m benchmarks.experiments.best_detector runs/demo    # eight minutes on two idle cores

Trains `tiny` on the demo's training scenes, validates it on the held-out ones every 100 steps, and
records the curve and what `best.pt` holds in benchmarks/results/best_detector.json.
"""

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from benchmarks.console_scripts import run_console_script
from shared.process.command import command_parser
from stage2_train.recipes.recipe import Recipe
from stage2_train.recipes.recipes import tiny_from_scratch
from stage2_train.run.run_checkpoint import read_run_checkpoint

RESULTS = Path("benchmarks/results/best_detector.json")
EVERY = 100


def curve() -> Recipe:
    """Return the recipe tiny_from_scratch with a validation every 100 steps."""
    return replace(tiny_from_scratch(), name="curve", validate_steps=EVERY)


def rows(file: Path) -> list[dict[str, float]]:
    with file.open(newline="") as handle:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(handle)]


def summary(run: Path) -> dict[str, object]:
    """Return the curve of a run, the best step by each measure, and the step of best.pt."""
    losses = [row["loss"] for row in rows(run / "log.csv")]
    validations = rows(run / "validation.csv")
    table = [
        {
            "step": int(row["step"]),
            "training_loss": round(fmean(losses[int(row["step"]) - EVERY : int(row["step"])]), 4),
            "validation_loss": round(row["loss"], 4),
            "mAP": row["mAP"],
            "NDS": row["NDS"],
        }
        for row in validations
    ]
    return {
        "curve": table,
        "best step by": {
            "training loss": min(table, key=lambda row: row["training_loss"])["step"],
            "validation loss": min(table, key=lambda row: row["validation_loss"])["step"],
            "mAP": max(table, key=lambda row: row["mAP"])["step"],
            "NDS": max(table, key=lambda row: row["NDS"])["step"],
        },
        "best.pt": read_run_checkpoint(run / "best.pt")["step"],
        "best.json": json.loads((run / "best.json").read_text()),
        "seconds per validation": round(fmean(row["seconds"] for row in validations), 1),
    }


def main() -> int:
    """Train, validate, and write the results."""
    parser = command_parser(__doc__)
    parser.add_argument("demo", type=Path, help="folder of `make demo`")
    args = parser.parse_args()
    run = args.demo / "best_detector"
    run_console_script(
        *("train-stage2", args.demo / "train.zarr", "--out", run, "--recipe", f"{__file__}:curve"),
        *("--val", args.demo / "val.zarr", "--nuscenes", args.demo / "nuscenes"),
    )
    document = summary(run)
    RESULTS.write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
