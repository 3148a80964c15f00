"""Everything that `benchmarks.speed.extraction` measures, as one JSON document."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.speed.extraction.cores_together import cores_together
from benchmarks.speed.extraction.end_to_end import (
    backbones_alone,
    disk_mb_per_s,
    extraction,
    limits,
    loaders_of_each,
    most_boxes,
)
from benchmarks.speed.extraction.extraction_stages import (
    ENCODE,
    WRITE,
    Stages,
    computed_rows,
    measure_stages,
)
from benchmarks.speed.extraction.timed_extraction import WorkerTask
from benchmarks.speed.gpu.cases import NOT_MEASURED, Cases
from benchmarks.speed.gpu.machine import machine
from cache.format.codec import DEFAULT_CODEC
from cache.format.schema import array_specs, row_bytes
from shared.process.cores import available_cores
from stage1_extract.backbones.live import LiveFeatures
from stage1_extract.nuscenes.records import SampleRecord

DISK_BYTES = {"cpu": 2**28, "cuda": 2**31}
MEMORY_MODULE = "benchmarks.speed.extraction.writer_memory"
MEMORY_CASES = (
    *(("threads", width) for width in (2, 8, 16)),
    *(("processes", width) for width in (2, 6, 12)),
)

Document = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """What is measured.

    Args:
        live: backbones and samples.
        records: all samples.
        task: the extraction; its workers do not count.
        source: what the frames are.
        passes: over the stages.
        is_rehearsal: little is measured, to see that everything runs.
    """

    live: LiveFeatures
    records: Sequence[SampleRecord]
    task: WorkerTask
    source: str
    passes: int
    is_rehearsal: bool

    @property
    def device(self) -> str:
        """Kind of the device, "cpu" or "cuda"."""
        return self.live.frozen.device.type


def measure(
    subject: Subject,
    combinations: Sequence[tuple[int, int]],
    cases: Cases,
    save: Callable[[Document], None],
) -> Document:
    """Measure everything that there is time for.

    Args:
        subject: what.
        combinations: numbers of processes, and of loader processes of all of them together.
        cases: measure whole extractions and the memory of writing, until their deadline.
        save: gets the document whenever it has grown.
    """
    load_before = os.getloadavg()[0]
    stages, document = _stages(subject)
    document["load_before"] = load_before
    folder = Path(subject.task.folder)
    for processes, loaders in combinations:
        about = {"processes": processes, "workers": loaders}
        task = loaders_of_each(subject.task, loaders, processes)
        run = partial(
            extraction,
            subject.live,
            subject.records,
            task,
            processes=processes,
            deadline=cases.deadline,
        )
        document["whole"].append(cases.run(about, run))
        document["limits"] = _limits(subject, stages, document)
        save(document)
    for kind, width in () if subject.is_rehearsal else MEMORY_CASES:
        row = cases.run({"kind": kind, "width": width}, partial(_memory, folder, kind, width))
        document["memory"].append(row)
    document["load_after"] = os.getloadavg()[0]
    save(document)
    return document


def _stages(subject: Subject) -> tuple[Stages, Document]:
    """Return the times of the stages, and the document that begins with them."""
    task, folder = subject.task, Path(subject.task.folder)
    specs = array_specs(subject.live.preset, most_boxes(subject.records), DEFAULT_CODEC)
    size = row_bytes(specs)
    stages = measure_stages(
        subject.live, folder, batch=task.batch_size, passes=subject.passes, row_bytes=size
    )
    (row,) = computed_rows(subject.live, 0, 1)
    disk_bytes = 2**23 if subject.is_rehearsal else DISK_BYTES[subject.device]
    document = {
        "machine": machine(),
        "device": subject.device,
        "preset": task.preset,
        "frames": subject.source,
        "samples": task.samples,
        "batch_size": task.batch_size,
        "codec": DEFAULT_CODEC,
        "cores": available_cores(),
        "row_bytes": size,
        "stages": {
            name: {"wall_ms": timing.wall_s * 1e3, "cpu_ms": timing.cpu_s * 1e3}
            for name, timing in stages.items()
        },
        "write_share": stages[ENCODE].cpu_s / stages[WRITE].cpu_s,
        "cores_per_s": cores_together(subject.live.raw, row, specs),
        "disk_mb_per_s": disk_mb_per_s(folder, disk_bytes),
        "whole": [],
        "limits": None,
        "memory": [],
    }
    return stages, document


def _limits(subject: Subject, stages: Stages, document: Document) -> dict[str, Any]:
    """Return the limits, with the backbones and the bytes of the best extraction so far."""
    measured = [run for run in document["whole"] if NOT_MEASURED not in run]
    if measured:
        best = min(measured, key=lambda run: run["ratio"] or math.inf)
        alone_s, disk_mb = best["backbones_wall_s"], best["disk_mb"]
    else:
        alone = backbones_alone(subject.live, subject.task.samples, subject.task.batch_size)
        alone_s, disk_mb = alone.wall_s, document["row_bytes"] / 1e6
    disk_s = disk_mb / document["disk_mb_per_s"]
    return limits(stages, alone_s, disk_s, document["cores_per_s"], subject.device)


def _memory(folder: Path, kind: str, width: int) -> dict[str, float]:
    """Return the peak of the writing side with so many threads or processes."""
    command = [sys.executable, "-m", MEMORY_MODULE, str(folder), kind, str(width)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result: dict[str, float] = json.loads(printed)
    return result
