"""Run the whole pipeline on synthetic data: `make demo`.

    python -m examples.demo

Synthetic nuScenes, extraction, training, evaluation by nuscenes-devkit before and after training
and under conditions, parity and plots, in runs/demo. Finished extraction and training are kept, so
a second call resumes where the first one stopped. Four minutes on two cores.
"""

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.console_scripts import folder_bytes, print_table, run_console_script

OUT = Path("runs/demo")
VERSION = "v1.0-mini"
SPLITS = {"train": "mini_train", "val": "mini_val"}
CONDITIONS = ("beams-4-even", "cameras-40", "extrinsics-all")  # LiDAR, cameras, calibration


def metrics(folder: Path) -> dict[str, float]:
    """Return the official metrics that an evaluation wrote."""
    summary = json.loads((folder / "metrics_summary.json").read_text())
    return {"mAP": summary["mean_ap"], "NDS": summary["nd_score"]}


def main() -> int:
    """Run every stage and write runs/demo/summary.json."""
    data = OUT / "nuscenes"
    stores = {split: OUT / f"{split}.zarr" for split in SPLITS}
    seconds: dict[str, float] = {}
    summary: dict[str, Any] = {}
    OUT.mkdir(parents=True, exist_ok=True)

    seconds["synthetic data"], _ = run_console_script(
        "python", "-m", "shared.synthetic_nuscenes", data
    )
    for split, store in stores.items():
        where = ("--nuscenes", data, "--version", VERSION, "--split", SPLITS[split])
        seconds[f"extract {split}"], _ = run_console_script(
            "extract-features", "tiny", *where, "--store", store
        )
    deltas = [extract_delta(name, data, stores["val"], seconds) for name in CONDITIONS]
    run = OUT / "run"
    recipe = ("--recipe", "demo")
    untrained = OUT / "untrained"
    run_console_script(
        "train-stage2", stores["train"], "--out", untrained, *recipe, "--stop-after", 0
    )
    seconds["train"], _ = run_console_script("train-stage2", stores["train"], "--out", run, *recipe)
    for name, checkpoint, split in (
        ("untrained", untrained, "val"),
        ("trained", run, "val"),
        ("trained, training scenes", run, "train"),
    ):
        folder = checkpoint / split
        seconds[f"evaluate {name}"], _ = run_console_script(
            *("evaluate-stage2", stores[split], checkpoint, "--out", folder, "--nuscenes", data),
            *(("--conditions", *deltas) if name == "trained" else ()),
        )
        summary[name] = metrics(folder)
    verdicts = []
    for name, head in (("seeded", ()), ("trained", ("--head", run / "checkpoint.pt"))):
        report_file = OUT / f"parity_{name}_head.json"
        seconds[f"parity, {name} head"], _ = run_console_script(
            *("check-parity", stores["val"], "--nuscenes", data, "--json", report_file), *head
        )
        verdicts.append(json.loads(report_file.read_text())["passed"])
    seconds["pictures"], _ = run_console_script(
        *("plot-samples", stores["val"], "--nuscenes", data, "--out", OUT / "pictures"),
        *("--results", run / "val" / "results_nusc.json"),
    )
    summary |= {
        "store_bytes": {split: folder_bytes(store) for split, store in stores.items()},
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        **losses(run),
        "mAP_untrained": summary["untrained"]["mAP"],
        "mAP_trained": summary["trained"]["mAP"],
        "parity": "passed" if all(verdicts) else "FAILED",
        "conditions": json.loads((run / "val" / "conditions.json").read_text())["conditions"],
    }
    (OUT / "summary.json").write_text(json.dumps(summary, indent=2))
    report(summary)
    return 0


def extract_delta(name: str, data: Path, base: Path, seconds: dict[str, float]) -> Path:
    """Store what a condition changes of the held-out scenes, and how long that takes."""
    delta = base.with_name(f"val.{name}.zarr")
    where = ("--nuscenes", data, "--version", VERSION, "--split", SPLITS["val"])
    seconds[f"extract {name}"], _ = run_console_script(
        *("extract-features", "tiny", *where, "--condition", name, "--base", base),
        *("--store", delta),
    )
    return delta


def losses(run: Path) -> dict[str, float]:
    """Return the first and last total loss of a run, and the means of its first and last 20."""
    lines = (run / "log.csv").read_text().splitlines()
    column = lines[0].split(",").index("loss")
    values = [float(line.split(",")[column]) for line in lines[1:]]
    return {
        "first_loss": values[0],
        "last_loss": values[-1],
        "mean_loss_first_20": sum(values[:20]) / len(values[:20]),
        "mean_loss_last_20": sum(values[-20:]) / len(values[-20:]),
    }


def report(summary: dict[str, Any]) -> None:
    """Print the summary as a table."""
    before, after = summary["untrained"], summary["trained"]
    rows = [(name, f"{value:.1f} s") for name, value in summary["seconds"].items()]
    rows.append(("all stages", f"{sum(summary['seconds'].values()):.1f} s"))
    rows += [
        (f"store {split}", f"{size / 1e6:.1f} MB") for split, size in summary["store_bytes"].items()
    ]
    rows += [
        ("loss, first and last step", f"{summary['first_loss']:.2f} -> {summary['last_loss']:.2f}"),
        (
            "mAP on held-out scenes",
            f"{before['mAP']:.4f} untrained -> {after['mAP']:.4f} trained",
        ),
        ("mAP on the training scenes", f"{summary['trained, training scenes']['mAP']:.4f} trained"),
        (
            "NDS on held-out scenes",
            f"{before['NDS']:.4f} untrained -> {after['NDS']:.4f} trained",
        ),
        ("parity", summary["parity"]),
        ("pictures", str(OUT / "pictures")),
        ("summary", str(OUT / "summary.json")),
    ]
    print_table(rows)
    print_table(
        [("held-out scenes under", "mAP     NDS     NDS over the clean one")]
        + [
            (name, f"{row['mAP']:.4f}  {row['NDS']:.4f}  {share(row['RA'])}")
            for name, row in summary["conditions"].items()
        ]
    )


def share(value: float | None) -> str:
    """Return a ratio, which is undefined if nothing is detected on clean samples."""
    return "-" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    sys.exit(main())
