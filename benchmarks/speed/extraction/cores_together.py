"""What all cores load and encode side by side while nothing computes: a limit of an extraction.

Less than the cores times what one of them does alone, where they share caches, memory and, as the
virtual cores of many machines do, their arithmetic units.
"""

import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.synchronize import Barrier

from cache.encoded_row import encode_row
from cache.format.schema import ArraySpec
from cache.format.statistics import MeasuredFeatures
from shared.digests import BLAKE3
from shared.process.cores import available_cores
from stage1_extract.extraction.stages.loader_processes import keep_to_one_core
from stage1_extract.extraction.stages.process_pool import ProcessPool
from stage1_extract.extraction.stages.row_memory import RowMemory
from stage1_extract.preprocessing.raw_frames import RawFrames

SECONDS, QUICK_SECONDS = 4.0, 0.2
FEW = 5  # samples: little is sent to a process, see `process_pool`


def cores_together(
    frames: RawFrames, row: MeasuredFeatures, specs: Sequence[ArraySpec], seconds: float
) -> float:
    """Return samples per second of processes that load a sample and encode a row in turn.

    Their files are digested once, which saves 4 ms a sample.

    Args:
        frames: loads samples, `FEW` at least.
        row: to encode.
        specs: its arrays.
        seconds: for how long.
    """
    cores = available_cores()
    memory = RowMemory(specs, 1)
    memory.put(0, row.maps)
    pool = ProcessPool(
        cores,
        _prepare,
        frames.with_records(frames.records[:FEW]),
        memory,
        replace(row, maps={}),
        specs,
        multiprocessing.get_context("spawn").Barrier(cores),
    )
    try:
        return sum(begun.result() for begun in [pool.submit(_work, seconds) for _ in range(cores)])
    finally:
        pool.close()
        memory.close_file()


_GIVEN: list[tuple[RawFrames, MeasuredFeatures, Sequence[ArraySpec], Barrier]] = []


def _prepare(
    frames: RawFrames,
    memory: RowMemory,
    row: MeasuredFeatures,
    specs: Sequence[ArraySpec],
    barrier: Barrier,
) -> None:
    keep_to_one_core()
    _GIVEN[:] = [(frames, replace(row, maps=memory.maps(0)), specs, barrier)]


def _work(seconds: float) -> float:
    """Load and encode as soon as every process does; return samples per second."""
    frames, row, specs, barrier = _GIVEN[0]

    def once(number: int) -> None:
        frames[0, number % len(frames)]
        encode_row(specs, row, BLAKE3)

    once(0)  # loads libraries, and takes memory
    barrier.wait()
    started, count = time.monotonic(), 0
    while time.monotonic() - started < seconds:
        once(count)
        count += 1
    return count / (time.monotonic() - started)
