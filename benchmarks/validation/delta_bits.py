"""Check that deltas have the same bits for any number of workers, any order, and after kills.

    python -m benchmarks.validation.delta_bits            # the most severe condition of each family
    python -m benchmarks.validation.delta_bits --all
    python -m benchmarks.validation.delta_bits lidar-stuck-10 --samples 8

Writes a synthetic set and its store with the tiny preset in runs/delta_bits, then extracts each
condition twice: by one worker; and by a worker of slice 2/2 with two loader processes that is
killed as soon as it has written something, whose rest a worker of slice 1/2 does in small shards.
Adds to benchmarks/results/delta_bits.json; exits with 1 if any two digests differ. A condition that
touches none of so few samples is refused by the extraction and fails here: give it more --samples.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from cache.delta.delta_inspection import delta_content
from cache.storage.location import as_store_path
from shared.process.command import command_parser
from shared.synthetic_nuscenes.world.synthetic_config import SyntheticConfig
from shared.synthetic_nuscenes.write import write_synthetic_nuscenes
from stage1_extract.__main__ import main as extract_features
from stage1_extract.conditions.catalogue.condition_catalogue import CATALOGUE

OUT, RESULTS = Path("runs/delta_bits"), Path("benchmarks/results/delta_bits.json")
SPLIT = ("--version", "v1.0-mini", "--split", "mini_train")
PATIENCE_S = 300


def most_severe() -> list[str]:
    """Return a condition of every family, its last in the catalogue."""
    return list({make().family: name for name, make in CATALOGUE.items()}.values())


def command(store: Path, *options: str) -> list[str]:
    """Return the command line of an extraction, from the data beside the store."""
    return ["tiny", "--nuscenes", str(store.parent / "nuscenes"), "--store", str(store), *options]


def killed(words: list[str], store: Path) -> bool:
    """Start an extraction and kill it as soon as there are files; return whether it still ran."""
    process = subprocess.Popen(
        [sys.executable, "-m", "stage1_extract", *words],
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + PATIENCE_S
    while process.poll() is None and not store.exists() and time.monotonic() < deadline:
        time.sleep(0.002)
    is_running = process.poll() is None
    if is_running:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return is_running


def compare(name: str, folder: Path) -> dict[str, Any]:
    """Extract a condition in both ways; return the digests and whether the kill hit."""
    options = ("--condition", name, "--base", str(folder / "base.zarr"))
    plain, disturbed = folder / f"{name}.plain", folder / f"{name}.disturbed"
    for store in (plain, disturbed):
        shutil.rmtree(store, ignore_errors=True)
    small = ("--shard-mib", "1")
    statuses = [extract_features(command(plain, *options))]
    with_workers = command(disturbed, *options, *small, "--workers", "2", "--slice", "2/2")
    was_killed = killed(with_workers, disturbed)
    statuses.append(extract_features(command(disturbed, *options, *small, "--slice", "1/2")))
    digests = [
        delta_content(as_store_path(store)).digest(recompute=True)
        for store, status in zip((plain, disturbed), statuses, strict=True)
        if not status
    ]
    is_same = len(digests) == len(statuses) and len(set(digests)) == 1
    return {"same": is_same, "killed": was_killed, "statuses": statuses, "digests": digests}


def main() -> int:
    """Compare, print, write the JSON."""
    parser = command_parser(__doc__)
    parser.add_argument("conditions", nargs="*", help="default one of each family")
    parser.add_argument("--all", action="store_true", help="every condition of the catalogue")
    parser.add_argument("--samples", type=int, default=4, help="default 4")
    args = parser.parse_args()
    folder = OUT / f"{args.samples}_samples"
    root = folder / "nuscenes"
    if not root.exists():
        config = SyntheticConfig(
            scenes_train=1,
            scenes_val=0,
            samples_per_scene=args.samples,
            azimuth_steps=360,
            render_stride_px=4,
        )
        write_synthetic_nuscenes(root, config, workers=1)
    if extract_features(command(folder / "base.zarr", *SPLIT)):
        return 1
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    names = list(CATALOGUE) if args.all else args.conditions or most_severe()
    for name in names:
        results[name] = {"samples": args.samples, **compare(name, folder)}
        print(f"{name:24} {'same bits' if results[name]['same'] else results[name]}", flush=True)
        RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    same = sum(results[name]["same"] for name in names)
    print(f"{same} of {len(names)} conditions have the same bits")
    return 0 if same == len(names) else 1


if __name__ == "__main__":
    raise SystemExit(main())
