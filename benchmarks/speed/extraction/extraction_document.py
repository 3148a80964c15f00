"""Everything that `benchmarks.speed.extraction` measures, as one JSON document."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.speed.extraction.cores_together import QUICK_SECONDS, SECONDS, cores_together
from benchmarks.speed.extraction.end_to_end import (
    disk_mb_per_s,
    extraction,
    limits,
    loaders_of_each,
    most_boxes,
)
from benchmarks.speed.extraction.extraction_goal import goal_of
from benchmarks.speed.extraction.extraction_stages import (
    ENCODE,
    WRITE,
    computed_rows,
    measure_stages,
)
from benchmarks.speed.extraction.timed_extraction import WorkerTask
from benchmarks.speed.gpu.cases import NOT_MEASURED, Cases
from benchmarks.speed.gpu.machine import machine
from cache.format.codec import DEFAULT_CODEC
from cache.format.schema import ArraySpec, array_specs, row_bytes
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
class Combination:
    """A whole extraction.

    Args:
        processes: that share the device.
        workers: loader processes of all of them together; 0 loads in a thread of each.
        batch_size: samples per forward.
    """

    processes: int
    workers: int
    batch_size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """What is measured.

    Args:
        live: backbones and samples.
        records: all samples.
        task: the extraction; its workers and, for whole ones, its batch size do not count.
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

    @property
    def folder(self) -> Path:
        """For stores."""
        return Path(self.task.folder)

    @property
    def specs(self) -> tuple[ArraySpec, ...]:
        """The arrays of a store of these samples."""
        return tuple(array_specs(self.live.preset, most_boxes(self.records), DEFAULT_CODEC))


def measure(
    subject: Subject,
    combinations: Sequence[Combination],
    cases: Cases,
    save: Callable[[Document], None],
) -> Document:
    """Measure everything that there is time for, what decides about the goal first.

    Args:
        subject: what.
        combinations: whole extractions.
        cases: measure one after the other, until their deadline.
        save: gets the document whenever it has grown.
    """
    document = _conditions(subject)

    def add(what: str, work: Callable[[], Document]) -> None:
        row = cases.run({"what": what}, work)
        if NOT_MEASURED in row:
            document["left_out"].append(row)
        else:
            document.update({name: value for name, value in row.items() if name != "what"})
        grown()

    def grown() -> None:
        _judge(document, subject.device)
        save(document)

    for number, combination in enumerate(combinations):
        document["whole"].append(_whole(subject, combination, cases))
        grown()
        if not number:
            add("cores", partial(_cores, subject))
    add("stages", partial(_stages, subject))
    # Last: gigabytes written and deleted leave a virtual machine without pages it has had before,
    # and those are what files of the stages would cost most of.
    add("disk", partial(_disk, subject))
    for kind, width in () if subject.is_rehearsal else MEMORY_CASES:
        run = partial(_memory, subject.folder, kind, width)
        document["memory"].append(cases.run({"kind": kind, "width": width}, run))
        grown()
    return document


def _conditions(subject: Subject) -> Document:
    """Return the document before anything is measured."""
    task = subject.task
    return {
        "machine": machine(),
        "device": subject.device,
        "preset": task.preset,
        "frames": subject.source,
        "samples": task.samples,
        "batch_size": task.batch_size,
        "codec": DEFAULT_CODEC,
        "cores": available_cores(),
        "row_bytes": row_bytes(subject.specs),
        "load_before": os.getloadavg()[0],
        "goal": None,
        "limits": None,
        "whole": [],
        "cores_per_s": None,
        "disk_mb_per_s": None,
        "stages": {},
        "write_share": None,
        "memory": [],
        "left_out": [],
    }


def _judge(document: Document, device: str) -> None:
    """Put into the document what follows from what is measured so far."""
    measured = [run for run in document["whole"] if NOT_MEASURED not in run]
    document["limits"] = limits(document, measured, device)
    document["goal"] = goal_of(measured, document["cores_per_s"], device)
    document["load_after"] = os.getloadavg()[0]


def _whole(subject: Subject, combination: Combination, cases: Cases) -> Document:
    processes, workers = combination.processes, combination.workers
    batch_size = 1 if subject.device == "cpu" else combination.batch_size
    task = loaders_of_each(replace(subject.task, batch_size=batch_size), workers, processes)
    run = partial(
        extraction,
        subject.live,
        subject.records,
        task,
        processes=processes,
        deadline=cases.deadline,
    )
    about = {"processes": processes, "workers": workers, "batch_size": batch_size}
    return cases.run(about, run)


def _cores(subject: Subject) -> Document:
    (row,) = computed_rows(subject.live, 0, 1)
    seconds = QUICK_SECONDS if subject.is_rehearsal else SECONDS
    return {"cores_per_s": cores_together(subject.live.raw, row, subject.specs, seconds)}


def _disk(subject: Subject) -> Document:
    size = 2**23 if subject.is_rehearsal else DISK_BYTES[subject.device]
    return {"disk_mb_per_s": disk_mb_per_s(subject.folder, size)}


def _stages(subject: Subject) -> Document:
    """Return the times of the stages."""
    stages = measure_stages(
        subject.live,
        subject.folder,
        batch=subject.task.batch_size,
        passes=subject.passes,
        row_bytes=row_bytes(subject.specs),
    )
    return {
        "stages": {
            name: {"wall_ms": timing.wall_s * 1e3, "cpu_ms": timing.cpu_s * 1e3}
            for name, timing in stages.items()
        },
        "write_share": stages[ENCODE].cpu_s / stages[WRITE].cpu_s,
    }


def _memory(folder: Path, kind: str, width: int) -> dict[str, float]:
    """Return the peak of the writing side with so many threads or processes."""
    command = [sys.executable, "-m", MEMORY_MODULE, str(folder), kind, str(width)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result: dict[str, float] = json.loads(printed)
    return result
