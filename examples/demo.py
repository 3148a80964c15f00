"""Run the whole pipeline on synthetic data, as a user would: `make demo`.

    python -m examples.demo

Synthetic nuScenes, extraction with the checkpoint that ships for `tiny`, training of AQR on it,
evaluation of both by nuscenes-devkit: clean samples, absent sensors, conditions; then parity,
pictures and export, in runs/demo. Finished extraction and training are kept, so a second call
resumes where the first one stopped.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from benchmarks.console_scripts import folder_bytes, print_table, run_console_script

OUT = Path("runs/demo")
VERSION = "v1.0-mini"
SPLITS = {"train": "mini_train", "val": "mini_val"}
CHECKPOINT = ("--checkpoint", "tiny")
# AQR alone: 200 short steps, at a rate for 80 samples instead of 28,130.
RECIPE = ("--recipe", "aqr_only")
SETTINGS = ("epochs=none", "steps=200", "batch_size=8", "learning_rate=1e-3", "peak_ratio=2")
DROPPED = ("lidar", "cameras")
CONDITIONS = ("beams-4-even", "cameras-40", "extrinsics-all")  # LiDAR, cameras, calibration
# Tensors of `tiny` are so small that threads cost more than they gain, and beside busy processes
# they wait for each other: 42 minutes were seen instead of four.
THREADS = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


def main() -> int:
    """Run every stage and write runs/demo/summary.json."""
    os.environ.update({name: os.environ.get(name, value) for name, value in THREADS.items()})
    OUT.mkdir(parents=True, exist_ok=True)
    data = OUT / "nuscenes"
    stores = {split: OUT / f"{split}.zarr" for split in SPLITS}
    run = OUT / "run"
    where = ("--nuscenes", data)
    seconds: dict[str, float] = {}

    seconds["synthetic data"], _ = run_console_script(
        "python", "-m", "shared.synthetic_nuscenes", data
    )
    for split, store in stores.items():
        which = (*where, "--version", VERSION, "--split", SPLITS[split])
        seconds[f"extract {split}"], _ = run_console_script(
            "extract-features", "tiny", *which, "--store", store, *CHECKPOINT
        )
    deltas = [stores["val"].with_name(f"val.{name}.zarr") for name in CONDITIONS]
    for name, delta in zip(CONDITIONS, deltas, strict=True):
        which = (*where, "--version", VERSION, "--split", SPLITS["val"])
        seconds[f"extract {name}"], _ = run_console_script(
            *("extract-features", "tiny", *which, "--store", delta, *CHECKPOINT),
            *("--condition", name, "--base", stores["val"]),
        )
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    seconds["train AQR"], _ = run_console_script(
        "train-stage2", stores["train"], "--out", run, *CHECKPOINT, *RECIPE, *settings
    )
    judged = OUT / "evaluation"
    seconds["evaluate both"], _ = run_console_script(
        *("evaluate-stage2", stores["val"], run, "--baseline", "tiny", "--out", judged, *where),
        *("--drop", *DROPPED, "--conditions", *deltas),
    )
    report_file = OUT / "parity.json"
    seconds["parity"], _ = run_console_script(
        *("check-parity", stores["val"], *where, *CHECKPOINT, "--json", report_file),
        *("--head", run / "checkpoint.pt"),
    )
    seconds["pictures"], _ = run_console_script(
        *("plot-samples", stores["val"], *where, "--out", OUT / "pictures"),
        *("--results", judged / "results_nusc.json"),
    )
    seconds["sensor weights"], _ = run_console_script(
        "plot-sensor-weights", stores["val"], run, "--out", OUT / "sensor_weights"
    )
    (OUT / "aqr.pth").unlink(missing_ok=True)  # of an earlier demo, whose run this one resumes
    seconds["export"], _ = run_console_script("export-checkpoint", run, "--out", OUT / "aqr.pth")
    summary: dict[str, Any] = {
        "conditions": {
            name: json.loads((folder / "conditions.json").read_text())["conditions"]
            for name, folder in (("checkpoint", judged / "baseline"), ("with AQR", judged))
        },
        "parity": "passed" if json.loads(report_file.read_text())["passed"] else "FAILED",
        "store_bytes": {split: folder_bytes(store) for split, store in stores.items()},
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
    }
    (OUT / "summary.json").write_text(json.dumps(summary, indent=2))
    report(summary)
    return 0


def report(summary: dict[str, Any]) -> None:
    """Print the summary as a table."""
    rows = [(name, f"{value:.1f} s") for name, value in summary["seconds"].items()]
    rows.append(("all stages", f"{sum(summary['seconds'].values()):.1f} s"))
    rows += [
        (f"store {split}", f"{size / 1e6:.1f} MB") for split, size in summary["store_bytes"].items()
    ]
    rows += [
        ("parity", summary["parity"]),
        ("pictures", f"{OUT / 'pictures'}, {OUT / 'sensor_weights'}"),
        ("checkpoint for the official code", str(OUT / "aqr.pth")),
        ("summary", str(OUT / "summary.json")),
    ]
    print_table(rows)
    print_table(
        [("held-out scenes", "mAP     NDS    with AQR: mAP     NDS     LiDAR weight, cameras'")]
        + [
            (
                name,
                f"{before['mAP']:.4f}  {before['NDS']:.4f}           {after['mAP']:.4f}  "
                f"{after['NDS']:.4f}  {after['lidar_weight']:+.3f}       "
                f"{after['cameras_weight']:+.3f}",
            )
            for (name, before), after in zip(
                summary["conditions"]["checkpoint"].items(),
                summary["conditions"]["with AQR"].values(),
                strict=True,
            )
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
