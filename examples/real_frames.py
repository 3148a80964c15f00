"""Run the whole pipeline on real nuScenes frames with the full r50_800x320 preset: `make real`.

    python -m examples.real_frames ../shared/nuscenes_real

Extracts every complete frame of a partial v1.0-mini, once from the tables and once from an info
file, compares the two stores, trains 20 steps with the full head, evaluates, checks parity and
plots samples, in runs/real (which git ignores: nuScenes data must not enter the repository).
Twelve minutes on two cores.
"""

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.console_scripts import folder_bytes, last_line, print_table, run_console_script
from cache.reader import CachedFeatures
from stage1_extract.backbones.live import LiveFeatures
from stage1_extract.backbones.weights import frozen_backbones
from stage1_extract.nuscenes.nuscenes_tables import read_tables

OUT = Path("runs/real")
PRESET = "r50_800x320"
VERSION = "v1.0-mini"
ALL, VAL = "mini_train+mini_val", "mini_val"
INFOS = Path("infos/mini_val_all81.v1.pkl")
REPEATS = 3


def seconds_per_sample(root: Path, store: CachedFeatures) -> dict[str, float]:
    """Time reading a sample: from raw files through the backbones, and from the store.

    The first sample is read once before the clock starts; the fastest of a few passes counts.
    """
    records = read_tables(root, VERSION, ALL, existing_only=True)
    live = LiveFeatures(records, frozen_backbones(store.preset, None)[0])
    best = {}
    for name, source in (("live", live), ("cached", store)):
        source.read([store.tokens[0]])
        passes = []
        for _ in range(REPEATS):
            started = time.perf_counter()
            for token in store.tokens:
                source.read([token])
            passes.append((time.perf_counter() - started) / len(store.tokens))
        best[name] = min(passes)
    return best


def extract(root: Path, store: Path, *source: object) -> float:
    """Extract the complete frames of a source; return the seconds it took."""
    seconds, _ = run_console_script(
        *("extract-features", PRESET, "--nuscenes", root, "--existing-only"),
        *(*source, "--store", store),
    )
    return seconds


def main() -> int:
    """Run every stage and write runs/real/summary.json."""
    root = Path(sys.argv[1])
    if not (root / VERSION).is_dir():
        print(f"error: {root} holds no {VERSION}; name the folder: make real SHARED=...")
        return 1
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    tables = ("--version", VERSION, "--split")
    extract(root, OUT / "tables_val.zarr", *tables, VAL)
    extract(root, OUT / "infos_val.zarr", "--infos", root / INFOS)
    digests = [
        last_line(run_console_script("feature-cache", "digest", OUT / name, "--recompute")[1])
        for name in ("tables_val.zarr", "infos_val.zarr")
    ]
    path = OUT / "all.zarr"
    seconds = {"extract": extract(root, path, *tables, ALL)}
    seconds["train 20 steps"], trained = run_console_script(
        "train-stage2", path, "--out", OUT / "run", "--recipe", "first_steps"
    )
    seconds["evaluate"], _ = run_console_script(
        "evaluate-stage2", path, OUT / "run", "--out", OUT / "run" / "val", "--nuscenes", root
    )
    seconds["parity"], _ = run_console_script(
        *("check-parity", path, "--nuscenes", root, "--samples", 5),
        *("--json", OUT / "parity.json"),
    )
    run_console_script(
        *("plot-samples", path, "--nuscenes", root, "--out", OUT / "pictures", "--samples", 5)
    )
    store = CachedFeatures(path)
    summary: dict[str, Any] = {
        "frames": len(store.tokens),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "seconds_per_sample": seconds_per_sample(root, store),
        "bytes_per_sample_on_disk": folder_bytes(path) / len(store.tokens),
        "training": json.loads(last_line(trained)),
        "parity": json.loads((OUT / "parity.json").read_text())["passed"],
        "tables_and_infos_identical": digests[0] == digests[1],
        "content_digest": digests[0],
    }
    (OUT / "summary.json").write_text(json.dumps(summary, indent=2))
    report(summary)
    return 0 if summary["tables_and_infos_identical"] and summary["parity"] else 1


def report(summary: dict[str, Any]) -> None:
    """Print the summary as a table."""
    sample_s = summary["seconds_per_sample"]
    training = summary["training"]
    rows = [(name, f"{value:.1f} s") for name, value in summary["seconds"].items()]
    rows += [
        ("one sample live", f"{sample_s['live']:.3f} s"),
        (
            "one sample cached",
            f"{sample_s['cached']:.4f} s, {sample_s['live'] / sample_s['cached']:.0f} times less",
        ),
        ("one sample on disk", f"{summary['bytes_per_sample_on_disk'] / 1e6:.1f} MB"),
        ("training step, batch 2", f"{training['seconds_per_step']:.2f} s"),
        ("loss", f"{training['first_loss']:.2f} -> {training['last_loss']:.2f}"),
        ("parity", "passed" if summary["parity"] else "FAILED"),
        (
            "tables and infos give the same store",
            "yes" if summary["tables_and_infos_identical"] else "NO",
        ),
    ]
    print_table(rows)


if __name__ == "__main__":
    sys.exit(main())
