"""What it costs that raw files come from a disk, with and without reading ahead.

    python -m benchmarks.speed.cold_files            # a minute on two cores, 1.3 GB of disk
    python -m benchmarks.speed.cold_files --quick    # a rehearsal

Loader processes load samples of r50_800x320 with ten sweeps, every one with copies of real frames'
files of its own, as an extraction asks for them. Before a pass over files on the disk Linux is told
to forget them (`posix_fadvise`); TMPDIR names the disk. Writes benchmarks/results/cold_files.json
and prints a table.
"""

import json
import os
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.speed.extraction.benchmark_frames import benchmark_frames
from benchmarks.speed.gpu.machine import machine
from benchmarks.speed.loaders import table_of
from shared.config.preset_catalogue import load_preset
from shared.process.command import command_parser
from shared.process.cores import available_cores
from stage1_extract.extraction.stages.loader_processes import LoaderProcesses
from stage1_extract.extraction.stages.stage_widths import (
    AHEAD,
    most_raw_bytes,
    samples_in_flight,
)
from stage1_extract.nuscenes.records import SampleRecord
from stage1_extract.preprocessing.raw_frames import RawFrames

RESULTS, QUICK_RESULTS = Path("benchmarks/results/cold_files.json"), Path("runs/cold_files.json")
REAL = Path("../shared/nuscenes_real")
PRESET, QUICK_PRESET = "r50_800x320", "tiny"
SAMPLES, QUICK_SAMPLES = 150, 8
ROUNDS, QUICK_ROUNDS = 2, 1


class NothingAhead(RawFrames):
    """Reads every file when it is loaded."""

    def begin_reading(self, place: tuple[int, int]) -> None:
        """Do nothing."""


def files_of(record: SampleRecord) -> list[Path]:
    """Return every file of a sample."""
    return [*record.keyframe_files, *(sweep.file for sweep in record.sweeps)]


def give_own_files(records: Sequence[SampleRecord]) -> int:
    """Replace links by copies of what they lead to; return their bytes."""
    written = 0
    for file in (file for record in records for file in files_of(record)):
        if file.is_symlink():
            source = file.resolve()
            file.unlink()
            shutil.copyfile(source, file)
        written += file.stat().st_size
    os.sync()
    return written


def forget(records: Sequence[SampleRecord]) -> None:
    """Empty the page cache of all files."""
    for file in (file for record in records for file in files_of(record)):
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def samples_per_s(frames: RawFrames, workers: int, *, is_cold: bool) -> float:
    """Load all samples in processes that have begun to work."""
    pool = LoaderProcesses(
        frames,
        workers,
        sample_bytes=most_raw_bytes(frames.preset),
        in_flight=samples_in_flight(1, workers),
    )
    try:
        for sample in [pool.load((0, index)) for index in range(workers)]:
            sample.result()
        if is_cold:
            forget(frames.records)
        started, begun = time.perf_counter(), deque[Any]()
        for index in range(len(frames)):
            begun.append(pool.load((0, index)))
            if len(begun) > AHEAD * workers:
                begun.popleft().result()
        for sample in begun:
            sample.result()
        return len(frames) / (time.perf_counter() - started)
    finally:
        pool.close()


def main() -> None:
    """Measure, print, write."""
    parser = command_parser(__doc__, "python -m benchmarks.speed.cold_files")
    parser.add_argument("--quick", action="store_true", help="preset tiny, few samples")
    parser.add_argument("--real", type=Path, default=REAL, help=f"real frames, default {REAL}")
    parser.add_argument("--json", type=Path, help=f"default {RESULTS}; {QUICK_RESULTS} if --quick")
    args = parser.parse_args()
    args.json = args.json or (QUICK_RESULTS if args.quick else RESULTS)
    preset = load_preset(QUICK_PRESET if args.quick else PRESET)
    samples, rounds = (QUICK_SAMPLES, QUICK_ROUNDS) if args.quick else (SAMPLES, ROUNDS)
    workers, rows = available_cores(), list[dict[str, Any]]()
    with tempfile.TemporaryDirectory(prefix="benchmark-cold-files-") as name:
        source, records = benchmark_frames(Path(name), args.real, samples)
        sample_bytes = give_own_files(records) / samples
        for _ in range(rounds):
            for is_cold in (False, True):
                for kind in (NothingAhead, RawFrames):
                    rate = samples_per_s(kind(records, preset), workers, is_cold=is_cold)
                    rows.append(
                        {
                            "files": "on the disk" if is_cold else "in memory",
                            "read ahead": "yes" if kind is RawFrames else "no",
                            "samples_per_s": rate,
                            "mb_per_s": rate * sample_bytes / 1e6,
                        }
                    )
                    print(rows[-1], flush=True)
    document = {
        "machine": machine(),
        "frames": source,
        "preset": preset.name,
        "samples": samples,
        "workers": workers,
        "rows": rows,
    }
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(document, indent=1) + "\n")
    print(table_of(rows))


if __name__ == "__main__":
    main()
