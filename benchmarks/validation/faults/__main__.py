"""The fault campaign: measure what a feature store survives.

    python -m benchmarks.validation.faults                  # 11 minutes on two cores
    python -m benchmarks.validation.faults --kills 20 --flips 100 --real-kills 0
    python -m benchmarks.validation.faults --json benchmarks/results/faults.json

A store of synthetic samples is extracted undisturbed, with the tiny preset. Then
- writers are killed (-9) at random moments, one or several at a time, and the store is completed:
  most of them replay prepared features through the same writer (`replay.py`), because starting the
  backbones takes eight seconds; `--real-kills` are kills of `extract-features` itself;
- files of a store are damaged: one random bit, truncation or zeroed block at a time;
- the disk fills up.
Everything is written to runs/faults, which git ignores. Exit status 1 if anything was lost, or any
damage was not detected.
"""

import argparse
import json
import logging
import os
import platform
import random
import shutil
import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.console_scripts import print_table, run_console_script
from benchmarks.validation.faults.flips import FlipResult, damage_files, leave_traces
from benchmarks.validation.faults.full_disk import FullDiskResult, fill_disks
from benchmarks.validation.faults.kills import KillResult, kill_writers
from benchmarks.validation.faults.workers import Worker, replay_command
from cache.coordination.store import open_store
from cache.inspection.content_digest import content_digest
from shared.process.command import command_parser
from shared.synthetic_nuscenes import SyntheticConfig, write_synthetic_nuscenes

OUT = Path("runs/faults")
SAMPLES = SyntheticConfig(
    scenes_train=2, scenes_val=1, samples_per_scene=12, azimuth_steps=360, render_stride_px=4
)
FLIPPED_SAMPLES = SyntheticConfig(
    scenes_train=1, scenes_val=1, samples_per_scene=3, azimuth_steps=360, render_stride_px=4
)
REAL_WRITE_S = 8.0  # roughly what an undisturbed extraction of SAMPLES takes after its start


def extraction(root: Path) -> list[object]:
    """Return the options of `extract-features` over a synthetic set."""
    return ["tiny", "--nuscenes", root, "--version", "v1.0-mini", "--split", "mini_train"]


def prepare(name: str, config: SyntheticConfig) -> tuple[Path, Path]:
    """Make a synthetic set and its undisturbed store."""
    root, store = OUT / f"{name}-nuscenes", OUT / f"{name}.zarr"
    write_synthetic_nuscenes(root, config, workers=1)
    run_console_script("extract-features", *extraction(root), "--store", store, "--shard-mib", 1)
    return root, store


def replay_seconds(source: Path, processes: int) -> float:
    """Return how long an undisturbed replay takes from its first row to its last, in seconds."""
    target = OUT / "timed.zarr"
    worker = Worker(replay_command(source, target, processes=processes))
    worker.wait_until_it_writes()
    began = time.monotonic()
    worker.finish()
    shutil.rmtree(target)
    return time.monotonic() - began


def kill(args: argparse.Namespace, root: Path, source: Path) -> dict[str, KillResult]:
    """Kill writers that replay, and some that extract; return the results by kind of writer."""
    digest = content_digest(open_store(source), recompute=True)
    moments = random.Random(args.seed)
    results = {}
    kinds = [(1, 0), (2, 0), (args.writers, 0), (1, 2), (2, 2)]
    for writers, processes in kinds:
        how = f"{processes} processes each" if processes else "threads"
        results[f"replay, {writers} at a time, {how}"] = kill_writers(
            partial(replay_command, source, processes=processes),
            OUT,
            digest=digest,
            writers=writers,
            kills=-(-args.kills // len(kinds)),
            write_s=replay_seconds(source, processes),
            random_moments=moments,
        )
    if args.real_kills:
        extract = ["stage1_extract", *extraction(root), "--shard-mib", 1]
        results["extract-features, 2 at a time"] = kill_writers(
            lambda store, share: [*extract, "--store", store, "--slice", share],
            OUT,
            digest=digest,
            writers=2,
            kills=args.real_kills,
            write_s=REAL_WRITE_S,
            random_moments=moments,
        )
    return results


def report(
    kills: dict[str, KillResult], flips: FlipResult, full: FullDiskResult
) -> list[tuple[str, str]]:
    """Return the rows of the printed table."""
    rows = [
        (
            f"kill -9: {name}",
            f"{result.kills} kills, {result.stores} stores completed, {result.equal} equal to the "
            f"undisturbed store; {result.finished_at_kills} finished shards counted at kills, "
            f"{result.recomputed} written again; {result.damaged} damages; {result.seconds:.0f} s",
        )
        for name, result in kills.items()
    ]
    rows += [(f"damage: {name}", str(count)) for name, count in flips.outcomes.items()]
    rows += [(f"damage of {name}", str(count)) for name, count in flips.by_group.items()]
    rows.append(
        (
            f"full disk ({full.method})",
            f"{full.points} points, {full.explained} explained, "
            f"{full.clean} left nothing incomplete, {full.resumed} resumed",
        )
    )
    return rows


def campaign(args: argparse.Namespace) -> dict[str, Any]:
    """Run everything, print the table and return the results."""
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    began = time.monotonic()
    root, source = prepare("kills", SAMPLES)
    kills = kill(args, root, source)
    _, flipped = prepare("flips", FLIPPED_SAMPLES)
    leave_traces(flipped)
    flips = damage_files(flipped, args.flips, random.Random(args.seed))
    full = fill_disks(source, OUT, content_digest(open_store(source), recompute=True))
    print_table(report(kills, flips, full))
    print("\n".join(["", *flips.failures, *full.failures]))
    results: list[KillResult | FlipResult | FullDiskResult] = [*kills.values(), flips, full]
    return {
        "options": {name: value for name, value in vars(args).items() if name != "json"},
        "python": platform.python_version(),
        "minutes": round((time.monotonic() - began) / 60, 1),
        "kills": {name: asdict(result) for name, result in kills.items()},
        "damages": asdict(flips),
        "full_disk": asdict(full),
        "passed": all(result.passed for result in results),
    }


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, run the campaign, report whether it passed."""
    parser = command_parser(__doc__, "python -m benchmarks.validation.faults")
    parser.add_argument("--kills", type=int, default=200, help="of replaying writers")
    parser.add_argument("--real-kills", type=int, default=12, help="of extract-features")
    parser.add_argument("--flips", type=int, default=1200, help="damages, one file at a time")
    parser.add_argument(
        "--writers", type=int, default=4, help="largest number of writers at a time"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the results here too")
    args = parser.parse_args(argv)
    logging.disable(logging.WARNING)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # for the commands, which share the cores
    document = campaign(args)
    print("passed" if document["passed"] else "FAILED")
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0 if document["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
