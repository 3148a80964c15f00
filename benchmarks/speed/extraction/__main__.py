"""Measure an extraction stage by stage and as a whole, against the limits of the machine.

    python -m benchmarks.speed.extraction                    # real frames if they are there
    python -m benchmarks.speed.extraction --preset vov_1600x640 --samples 16
    python -m benchmarks.speed.extraction --quick            # a rehearsal: tiny, two samples

Runs on a GPU where there is one, else on the CPU. Writes benchmarks/results/extraction.json and the
table in docs/speed.md between its markers (not with --quick). Times are per sample; a stage counts
in its fastest pass. Trust processor time, and ratios within a run, where other jobs use the cores.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

from benchmarks.speed.codecs.codec_features import INFOS, real_records
from benchmarks.speed.extraction.end_to_end import (
    SHARD_ROWS,
    backbones_alone,
    extraction,
    limits,
    renamed_records,
)
from benchmarks.speed.extraction.extraction_stages import ENCODE, WRITE, measure_stages
from benchmarks.speed.extraction.extraction_table import BEGIN, END, table
from benchmarks.speed.gpu.machine import machine
from cache.format.codec import DEFAULT_CODEC
from cache.format.schema import array_specs, row_bytes
from shared.config.preset_catalogue import load_preset
from shared.process.cores import available_cores
from shared.process.device import available_device
from shared.synthetic_nuscenes import SyntheticConfig, write_synthetic_nuscenes
from stage1_extract.backbones.live import LiveFeatures
from stage1_extract.backbones.weights import frozen_backbones
from stage1_extract.extraction.stage_widths import default_batch_size
from stage1_extract.nuscenes.nuscenes_tables import read_tables
from stage1_extract.nuscenes.records import SampleRecord

RESULTS, PAGE = Path("benchmarks/results/extraction.json"), Path("docs/speed.md")
REAL = Path("../shared/nuscenes_real")
MEMORY_THREADS, MEMORY_ROWS = (2, 8, 16), 60


def frames(folder: Path, real: Path, count: int) -> tuple[str, list[SampleRecord]]:
    """Return real frames if there are any, else synthetic ones, and what they are."""
    if (real / INFOS).exists():
        return "real", real_records(real, count)
    root = folder / "nuscenes"
    config = SyntheticConfig(scenes_train=1, scenes_val=1, samples_per_scene=max(2, count))
    write_synthetic_nuscenes(root, config, workers=1)
    return "synthetic", read_tables(root, "v1.0-mini", "mini_train")


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure everything."""
    preset, device = load_preset(args.preset), available_device()
    source, records = frames(folder, args.real, min(args.samples, 5))
    frozen, _ = frozen_backbones(preset, None)
    batch = args.batch_size or default_batch_size(preset, device)
    records = renamed_records(records, args.samples)
    live = LiveFeatures(records, frozen)
    boxes = max(1, *(len(record.annotations.labels) for record in records))
    size = row_bytes(array_specs(preset, boxes, DEFAULT_CODEC))
    stages = measure_stages(live, folder, batch=batch, passes=args.passes, row_bytes=size)
    whole = []
    for workers in args.workers or ([0] if device.type == "cpu" else [0, available_cores()]):
        before = backbones_alone(live, args.samples, batch)
        run = extraction(live, records, folder, batch=batch, workers=workers, row_bytes=size)
        after = backbones_alone(live, args.samples, batch)
        alone = (before.wall_s + after.wall_s) / 2
        whole.append({**run, "backbones_wall_s": alone, "ratio": run["wall_s"] / alone})
    best = min(whole, key=lambda run: run["ratio"])
    return {
        "machine": machine(),
        "preset": preset.name,
        "frames": source,
        "samples": args.samples,
        "batch_size": batch,
        "codec": DEFAULT_CODEC,
        "cores": available_cores(),
        "shard_rows": SHARD_ROWS,
        "row_bytes": size,
        "load_before": os.getloadavg()[0],
        "stages": {
            name: {"wall_ms": timing.wall_s * 1e3, "cpu_ms": timing.cpu_s * 1e3}
            for name, timing in stages.items()
        },
        "write_share": stages[ENCODE].cpu_s / stages[WRITE].cpu_s,
        "whole": whole,
        "limits": limits(stages, best["backbones_wall_s"], device.type),
        "memory": [] if args.quick else [measure_memory(folder, t) for t in MEMORY_THREADS],
        "load_after": os.getloadavg()[0],
    }


def measure_memory(folder: Path, threads: int) -> dict[str, float]:
    """Return the peak of the writing side with so many threads, see `writer_memory`."""
    module = "benchmarks.speed.extraction.writer_memory"
    command = [sys.executable, "-m", module, str(folder), str(threads), str(MEMORY_ROWS)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result: dict[str, float] = json.loads(printed)
    return result


def updated(page: str, text: str) -> str:
    """Return the page with this text between its markers.

    Raises:
        ValueError: if the page lacks a marker.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE}: expected the lines {BEGIN} and {END}, in this order")
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"


def options() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.extraction",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--preset", default="r50_800x320", help="default r50_800x320")
    parser.add_argument("--samples", type=int, default=12, help="default 12")
    parser.add_argument("--batch-size", type=int, help="default as extract-features")
    parser.add_argument("--passes", type=int, default=3, help="over the stages, default 3")
    parser.add_argument(
        "--workers", type=int, nargs="+", help="default 0; on a GPU also one per core"
    )
    parser.add_argument("--real", type=Path, default=REAL, help=f"real frames, default {REAL}")
    parser.add_argument("--json", type=Path, default=RESULTS, help=f"default {RESULTS}")
    parser.add_argument("--quick", action="store_true", help="a rehearsal; keeps no number")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Measure, print the table, and keep it."""
    args = options().parse_args(argv)
    if args.quick:
        args.preset, args.samples, args.passes, args.workers = "tiny", 2, 1, [0]
    warnings.simplefilter("ignore")  # of other packages
    with tempfile.TemporaryDirectory(prefix="benchmark-extraction-") as folder:
        document = measure(args, Path(folder))
    text = table(document)
    print(text)
    if args.quick:
        return
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(document, indent=1) + "\n")
    PAGE.write_text(updated(PAGE.read_text(), text))


if __name__ == "__main__":
    main()
