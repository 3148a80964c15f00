"""What a worker process does: its slice of a store, as `extract-features`, with a clock."""

import json
import resource
import sys
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed.extraction.benchmark_frames import benchmark_frames
from benchmarks.speed.extraction.thread_samples import ThreadSamples
from cache.format.layout import Shard
from cache.writer import StoreWriter
from shared.config.preset_catalogue import load_preset
from stage1_extract.backbones.weights import frozen_backbones
from stage1_extract.extraction.fill_store import fill_store
from stage1_extract.extraction.worker_slice import choose_cuda_device, choose_slice


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerTask:
    """An extraction that several processes share; strings and numbers, for a command line.

    Args:
        preset: name of the backbones' preset.
        folder, real: see `benchmark_frames`.
        samples: of the store.
        store: to fill; it exists, and is empty.
        batch_size: samples per forward on a GPU.
        workers: loader processes of each process; None for what `extract-features` starts.
    """

    preset: str
    folder: str
    real: str
    samples: int
    store: str
    batch_size: int
    workers: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerReport:
    """What a process did; times are of the system's monotonic clock, which processes share.

    Args:
        begun_at, ended_at: of `fill_store`.
        written_at: when each row was on disk, in order; all rows of a shard at once.
        cpu_s: processor time, of its loader processes too.
        forwards: of the backbones.
        stage_rates: samples per second that each stage could do beside the others.
        peak_device_mb: most memory that torch held on the GPU; 0 on a CPU.
        queueing: what the computing thread did from the first forward on, see `ThreadSamples.end`.
    """

    begun_at: float
    ended_at: float
    written_at: list[float]
    cpu_s: float
    forwards: int
    stage_rates: dict[str, float]
    peak_device_mb: float
    queueing: dict[str, Any]


def timed_extraction(task: WorkerTask) -> None:
    """Build the backbones, wait until all processes are ready, and extract.

    Says "ready" and then the report as JSON, a line each; begins once its input is closed.
    """
    warnings.simplefilter("ignore")  # of other packages
    said, sys.stdout = sys.stdout, sys.stderr  # which other packages print to
    choose_cuda_device()
    _, records = benchmark_frames(Path(task.folder), Path(task.real), task.samples)
    frozen, _ = frozen_backbones(load_preset(task.preset), None)
    forwards: list[None] = []
    samples: list[ThreadSamples] = []

    def count(*_: Any) -> None:
        if not samples:
            samples.append(ThreadSamples())
        forwards.append(None)

    frozen.register_forward_pre_hook(count)
    writer, written_at = StoreWriter(Path(task.store)), list[float]()

    def note(shard: Shard) -> None:
        written_at.extend([time.monotonic()] * len(shard.tokens))

    print("ready", file=said, flush=True)
    sys.stdin.read()
    cpu_s, begun_at = _cpu_seconds(), time.monotonic()
    rates = fill_store(
        writer,
        records,
        frozen,
        batch_size=task.batch_size,
        workers=task.workers,
        worker_slice=choose_slice(None),
        on_written=note,
    )
    queueing = samples[0].end(len(forwards)) if samples else {}
    report = WorkerReport(
        begun_at=begun_at,
        ended_at=time.monotonic(),
        written_at=sorted(written_at),
        cpu_s=_cpu_seconds() - cpu_s,
        forwards=len(forwards),
        stage_rates={**rates.per_second()},
        peak_device_mb=_peak_device_bytes() / 1e6,
        queueing=queueing,
    )
    print(json.dumps(asdict(report)), file=said, flush=True)


def _peak_device_bytes() -> int:
    return torch.cuda.max_memory_reserved() if torch.cuda.is_available() else 0


def _cpu_seconds() -> float:
    """Return the processor time of this process and of those it started that have ended."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )
