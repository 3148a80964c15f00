"""Time whole extractions into new stores, against the limits that the stages set."""

import math
import os
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed.extraction.extraction_stages import BACKBONES, JOIN, LOAD, MEASURE, WRITE
from benchmarks.speed.extraction.timed_extraction import WorkerTask
from benchmarks.speed.extraction.worker_processes import joint_figures, run_workers
from benchmarks.speed.store.sample_rows import new_store
from benchmarks.speed.store.timing import Timing, timed
from cache.coordination.store import Store
from cache.format.codec import DEFAULT_CODEC
from cache.format.layout import SHARD_BYTES
from cache.format.samples import Samples
from cache.format.schema import array_specs, row_bytes
from shared.config.preset import Preset
from shared.process.cores import available_cores
from stage1_extract.backbones.live import LiveFeatures, join_raw
from stage1_extract.nuscenes.records import SampleRecord

# On a CPU, where every sample is a batch, shards have two rows: several of them even of few
# samples, so that computing and writing overlap. On a GPU they have what a user gets: shards of the
# default size, of whole batches.
CPU_SHARD_ROWS = 2
WARM_UP = 1  # batches that load libraries and allocate memory
MOST_BATCHES = 64  # that the backbones alone are timed on
DISK_THREADS, DISK_PIECE = 4, 2**24


def backbones_alone(live: LiveFeatures, count: int, batch: int) -> Timing:
    """Return seconds per sample of the backbones, one batch after the other, with nothing else."""
    raw = join_raw(
        [live.raw[0, i % len(live.raw)] for i in range(batch)],
        is_pinned=live.frozen.device.type == "cuda",  # as in an extraction
    )
    for _ in range(WARM_UP):
        live.maps(raw)
    timing, batches = Timing(), min(MOST_BATCHES, max(1, count // batch))
    _synchronise()
    with timed(timing):
        for _ in range(batches):
            live.maps(raw)
        _synchronise()
    return Timing(timing.wall_s / (batches * batch), timing.cpu_s / (batches * batch))


def most_boxes(records: Sequence[SampleRecord]) -> int:
    """Return the boxes that a row has space for."""
    return max(1, *(len(record.annotations.labels) for record in records))


def empty_store(
    path: Path, preset: Preset, records: Sequence[SampleRecord], batch: int, device: str
) -> Store:
    """Create a store for these samples, with the shards of an extraction on this kind of device."""
    boxes = most_boxes(records)
    few_bytes = CPU_SHARD_ROWS * row_bytes(array_specs(preset, boxes, DEFAULT_CODEC))
    return new_store(
        path,
        preset,
        Samples(
            tokens=[record.token for record in records],
            scenes=[record.scene for record in records],
            timestamps_us=[record.timestamp_us for record in records],
        ),
        max_boxes=boxes,
        command="python -m benchmarks.speed.extraction",
        shard_bytes=few_bytes if device == "cpu" else SHARD_BYTES,
        rows_at_once=batch,
    ).store


def extraction(
    live: LiveFeatures,
    records: Sequence[SampleRecord],
    task: WorkerTask,
    *,
    processes: int,
    deadline: float,
) -> dict[str, Any]:
    """Fill a new store with so many processes, with the backbones alone before and after.

    Args:
        live: with the backbones that are timed alone.
        records: all samples.
        task: of every process; the store is created, and deleted afterwards.
        processes: see `run_workers`.
        deadline: see `run_workers`.

    Returns:
        See `joint_figures`; `ratio` is the time of a row, after the start, over that of the
        backbones alone.
    """
    path, batch = Path(task.store), task.batch_size
    device = live.frozen.device.type
    before = backbones_alone(live, len(records), batch)
    store = empty_store(path, live.preset, records, batch, device)
    try:
        reports = run_workers(task, processes, deadline)
        disk_bytes = sum(store.path.sizes().values())
    finally:
        shutil.rmtree(path)
    after = backbones_alone(live, len(records), batch)
    alone = (before.wall_s + after.wall_s) / 2
    figures = joint_figures(reports, batch)
    rate = figures["steady_per_s"]
    return {
        "slots": store.layout.slots,
        **figures,
        "disk_mb": disk_bytes / len(records) / 1e6,
        "backbones_wall_s": alone,
        "ratio": None if rate is None else 1 / rate / alone,
    }


def loaders_of_each(task: WorkerTask, loaders: int, processes: int) -> WorkerTask:
    """Divide loader processes among processes, at least one each; 0 loads in a thread of each."""
    return replace(task, workers=max(1, loaders // processes) if loaders else 0)


def disk_mb_per_s(folder: Path, size_bytes: int) -> float:
    """Return how fast threads write files of many megabytes there and wait for the disk."""
    pieces = max(1, size_bytes // DISK_THREADS // DISK_PIECE)
    content = os.urandom(min(DISK_PIECE, size_bytes))

    def write(number: int) -> int:
        file = folder / f"disk_{number}"
        with file.open("wb", buffering=0) as opened:
            written = sum(opened.write(content) for _ in range(pieces))
            os.fsync(opened.fileno())
        return written

    started = time.perf_counter()
    with ThreadPoolExecutor(DISK_THREADS) as pool:
        written = sum(pool.map(write, range(DISK_THREADS)))
    seconds = time.perf_counter() - started
    for number in range(DISK_THREADS):
        (folder / f"disk_{number}").unlink()
    return written / seconds / 1e6


def limits(
    document: dict[str, Any], measured: Sequence[dict[str, Any]], device: str
) -> dict[str, Any]:
    """Return the samples per second that each limit allows, and the name of the lowest.

    Args:
        document: of the measurement so far; limits that it does not know yet are left out.
        measured: whole extractions; that with the best `ratio` tells what backbones take alone.
        device: "cpu" or "cuda".

    Returns:
        `samples_per_s` by limit, `limit`, and `beside_backbones_cpu_s` once stages are measured.
    """
    allowed, stages = dict[str, float](), document["stages"]
    if device == "cpu" and stages:  # the cores do everything
        work = (LOAD, JOIN, BACKBONES, MEASURE, WRITE)
        allowed["all work on the cores"] = available_cores() / _cpu_s(stages, work)
    if device != "cpu" and document["cores_per_s"]:
        allowed["all cores, loading and encoding"] = document["cores_per_s"]
    if measured:
        best = min(measured, key=lambda run: run["ratio"] or math.inf)
        allowed["backbones alone"] = 1 / best["backbones_wall_s"]
        if document["disk_mb_per_s"]:
            allowed["the disk"] = document["disk_mb_per_s"] / best["disk_mb"]
    return {
        "samples_per_s": allowed,
        "limit": min(allowed, key=lambda name: allowed[name]) if allowed else None,
        "beside_backbones_cpu_s": _cpu_s(stages, (LOAD, JOIN, MEASURE, WRITE)) if stages else None,
    }


def _cpu_s(stages: dict[str, dict[str, float]], names: Sequence[str]) -> float:
    return sum(stages[name]["cpu_ms"] for name in names) / 1e3


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
