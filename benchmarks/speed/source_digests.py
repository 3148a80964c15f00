"""What digesting sensor files costs an extraction, in CPU time of r50_800x320.

    python -m benchmarks.speed.source_digests FRAMES      # a minute on one core
    python -m benchmarks.speed.source_digests FRAMES --json FILE

FRAMES is a folder of nuScenes with v1.0-mini. Of frames that lack sweeps the keyframe stands in
for all ten, so that eleven point files are read. Every step is timed by itself, in CPU time of all
threads: median over repetitions, mean over frames. Loading is without digests, which are
remembered after the first time.
"""

import argparse
import hashlib
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from shared.config.preset import MAX_SWEEPS, Preset
from shared.config.preset_catalogue import load_preset
from stage1_extract.backbones.frozen import FrozenBackbones
from stage1_extract.backbones.live import LiveFeatures
from stage1_extract.backbones.weights import frozen_backbones
from stage1_extract.extraction.extraction_identity import open_or_create_store
from stage1_extract.nuscenes.dataset_options import DatasetChoice
from stage1_extract.nuscenes.records import SampleRecord, Sweep

PRESET, VERSION, SPLIT = "r50_800x320", "v1.0-mini", "mini_train+mini_val"
FRAMES, REPEATS = 5, 5
MOST_SHARE = 0.03  # of the CPU time of an extraction


def with_ten_sweeps(record: SampleRecord) -> SampleRecord:
    """Let the keyframe stand in for its sweeps, moved and timed as the newest."""
    stand_in: Sweep = replace(record.sweeps[0], file=record.lidar_file)
    return replace(record, sweeps=(stand_in,) * MAX_SWEEPS)


def files_of(record: SampleRecord, preset: Preset) -> list[bytes]:
    """Return the content of every file that a row is read from."""
    assert preset.lidar is not None
    sweeps = [sweep.file for sweep in record.sweeps[: preset.lidar.sweeps]]
    return [file.read_bytes() for file in (*record.keyframe_files, *sweeps)]


def digest_all(contents: Sequence[bytes]) -> None:
    for content in contents:
        hashlib.sha256(content).hexdigest()


def cpu_ms(work: Callable[[], Any], repeats: int) -> float:
    """Return the median CPU time of some repetitions, in milliseconds."""
    times_s = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        times_s.append(time.process_time() - started)
    return statistics.median(times_s) * 1000


def measure(root: Path, preset: Preset, frames: int) -> dict[str, Any]:
    dataset = DatasetChoice(
        nuscenes=root,
        version=VERSION,
        split=SPLIT,
        infos=None,
        box_convention="auto",
        existing_only=True,
    )
    complete = [record for record in dataset.read() if record.sweeps][:frames]
    records = [with_ten_sweeps(record) for record in complete]
    frozen, _ = frozen_backbones(preset, None)
    live = LiveFeatures(records, frozen)
    live.run([live.raw[0, 0]])  # loads libraries
    steps: dict[str, list[float]] = {"digests": [], "loading": [], "backbones": [], "writing": []}
    sizes = []
    for index, record in enumerate(records):
        contents, raw = files_of(record, preset), live.raw[0, index]
        sizes.append(sum(map(len, contents)))
        rows = live.run([raw])
        steps["digests"].append(cpu_ms(partial(digest_all, contents), REPEATS))
        steps["loading"].append(cpu_ms(partial(live.raw.__getitem__, (0, index)), REPEATS))
        steps["backbones"].append(cpu_ms(partial(live.run, [raw]), 1))
        steps["writing"].append(written_ms(frozen, record, rows, dataset))
    means = {step: statistics.mean(times) for step, times in steps.items()}
    on_cpu = means["loading"] + means["writing"]
    return {
        "preset": preset.name,
        "frames": len(records),
        "files": len(contents),
        "megabytes": round(statistics.mean(sizes) / 1e6, 2),
        "cpu_ms": {step: round(mean, 2) for step, mean in means.items()},
        "share_of_extraction": round(means["digests"] / (on_cpu + means["backbones"]), 4),
        "share_without_backbones": round(means["digests"] / on_cpu, 4),
    }


def written_ms(
    frozen: FrozenBackbones, record: SampleRecord, rows: Sequence[Any], dataset: DatasetChoice
) -> float:
    """Return the CPU time of encoding and writing a row, as a store of one sample."""
    times = []
    for _ in range(REPEATS):
        with tempfile.TemporaryDirectory() as folder:
            writer = open_or_create_store(
                Path(folder) / "store.zarr",
                frozen,
                [record],
                dataset,
                origin="",
                command=[],
                codec=None,
                variants=1,
                batch_size=1,
                shard_bytes=1,
            )
            (shard,) = writer.shards
            times.append(cpu_ms(partial(writer.write_shard, shard, rows), 1))
    return statistics.median(times)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("frames", type=Path)
    parser.add_argument("--preset", default=PRESET)
    parser.add_argument("--json", type=Path, help="write the result there, too")
    args = parser.parse_args(arguments)
    result = measure(args.frames, load_preset(args.preset), FRAMES)
    print(json.dumps(result, indent=2))
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if result["share_of_extraction"] <= MOST_SHARE else 1


if __name__ == "__main__":
    raise SystemExit(main())
