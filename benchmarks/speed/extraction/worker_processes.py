"""Several worker processes on one machine and, if there is one, one GPU, as torchrun starts them.

Start-up is not what they are compared by: all begin at once, and their joint rate is that of the
time in which every one of them writes.
"""

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import IO, Any

from benchmarks.speed.extraction.timed_extraction import WorkerReport, WorkerTask
from stage1_extract.extraction.stages.stage_rates import STAGES

MODULE = "benchmarks.speed.extraction.extraction_worker"
POLL_S = 1.0
LONGEST_END_S = 20.0  # from SIGTERM until a process is killed

Child = subprocess.Popen[str]


def run_workers(task: WorkerTask, processes: int, deadline: float) -> list[WorkerReport]:
    """Run the task in so many processes, each with a slice of the store.

    Args:
        task: of every process.
        processes: how many.
        deadline: of the monotonic clock, when they are ended.

    Raises:
        RuntimeError: if one of them fails; with the end of what it said.
        TimeoutError: at the deadline.
    """
    with ExitStack() as stack:
        started = [_start(stack, task, rank, processes) for rank in range(processes)]
        for child, log in started:
            _line(child, log, deadline)  # "ready"
        for child, _ in started:
            assert child.stdin is not None
            child.stdin.close()
        return [WorkerReport(**json.loads(_line(child, log, deadline))) for child, log in started]


def _start(stack: ExitStack, task: WorkerTask, rank: int, processes: int) -> tuple[Child, IO[str]]:
    """Start a process that the stack will end."""
    log = stack.enter_context(tempfile.TemporaryFile("w+"))  # noqa: SIM115  the stack closes it
    numbers = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": processes,
        "LOCAL_WORLD_SIZE": processes,
    }
    child = subprocess.Popen(
        [sys.executable, "-m", MODULE, json.dumps(asdict(task))],
        env=os.environ | {name: str(number) for name, number in numbers.items()},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    )
    stack.callback(_end, child)
    return child, log


def _line(child: Child, log: IO[str], deadline: float) -> str:
    """Return the next line that a process says."""
    assert child.stdout is not None
    while not select.select([child.stdout], [], [], POLL_S)[0]:
        if time.monotonic() > deadline:
            raise TimeoutError("the time for the benchmark is over")
    line = child.stdout.readline()
    if not line:
        log.seek(0)
        raise RuntimeError(f"a worker ended with status {child.wait()}: {log.read()[-2000:]}")
    return line


def _end(child: Child) -> None:
    """End a process, which ends its loader processes itself."""
    if child.poll() is None:
        child.terminate()
    for stream in (child.stdin, child.stdout):
        assert stream is not None
        stream.close()
    try:
        child.wait(LONGEST_END_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def joint_figures(reports: Sequence[WorkerReport], batch_size: int) -> dict[str, Any]:
    """Return what the processes did together.

    Args:
        reports: of all of them.
        batch_size: samples that every forward computes, padding included.

    Returns:
        `start_s`: from the beginning until every process had written a row; `steady_per_s`: rows
        per second from then on, until the first process had written its last row; None if there
        was no such time. `stage_rates`: what the stages of all of them could do, beside each
        other. `padded_share`: of the computed samples. `cpu_s` and `wall_s` per row. `queueing`:
        of the process that took longest for a batch, see `ThreadSamples.end`.
    """
    begun_at = min(report.begun_at for report in reports)
    rows = sum(len(report.written_at) for report in reports)
    wall_s = max(report.ended_at for report in reports) - begun_at
    figures: dict[str, Any] = {"start_s": None, "steady_per_s": None, "steady_rows": 0}
    if all(report.written_at for report in reports):
        begin = max(report.written_at[0] for report in reports)
        end = min(report.written_at[-1] for report in reports)
        steady = sum(begin < at <= end for report in reports for at in report.written_at)
        figures["start_s"] = begin - begun_at
        if steady:
            figures |= {"steady_rows": steady, "steady_per_s": steady / (end - begin)}
    return figures | {
        "stage_rates": {
            stage: sum(report.stage_rates.get(stage, 0) for report in reports) for stage in STAGES
        },
        "wall_s": wall_s / rows,
        "cpu_s": sum(report.cpu_s for report in reports) / rows,
        "padded_share": 1 - rows / (batch_size * sum(report.forwards for report in reports)),
        "peak_device_mb": max(report.peak_device_mb for report in reports),
        "queueing": max(
            (report.queueing for report in reports), key=lambda seen: seen.get("queueing_ms", 0.0)
        ),
    }
