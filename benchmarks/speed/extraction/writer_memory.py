"""The memory of the writing side: how far its peak is above what it started with.

    python -m benchmarks.speed.extraction.writer_memory FOLDER threads 8
    python -m benchmarks.speed.extraction.writer_memory FOLDER processes 8

The rows are made as fast as possible, so that memory is as full as it can get; every row has memory
of its own, as from a GPU. Where processes write, the memory is that of all of them; a page that
several of them map counts once ("proportional set size").
"""

import contextlib
import json
import multiprocessing
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.speed.store.sample_rows import (
    frame_as,
    new_store,
    synthetic_features,
    synthetic_samples,
)
from benchmarks.validation.faults.replay import StoredRows
from cache.coordination.claims import Claims
from cache.format.layout import Shard
from cache.format.schema import row_bytes
from cache.format.statistics import MapMeasure, MeasuredFeatures, Statistics
from cache.writer import StoreWriter
from shared.config.preset_catalogue import r50_800x320
from shared.data.features import FrameFeatures, as_floats
from shared.process.memory.freed_memory import keep_freed_memory
from stage1_extract.extraction.stages.row_sink import row_sink
from stage1_extract.extraction.stages.shard_writers import ShardWriters
from stage1_extract.extraction.stages.stage_rates import STAGES, StageRates
from stage1_extract.extraction.stages.stage_widths import choose_widths

SLOTS = 8  # rows of a shard, as of r50_800x320 on a GPU
LOOK_S = 0.02  # between looks at the memory
START_S = 3.0  # until processes have started


def measured(row: FrameFeatures) -> MeasuredFeatures:
    """Return a row as a device hands it over."""
    maps = {name: as_floats(values).astype(np.float16) for name, values in row.maps.items()}
    measures = {}
    for name, values in maps.items():
        statistics = Statistics.of(values)
        measures[name] = MapMeasure(low=statistics.min, high=statistics.max, statistics=statistics)
    return MeasuredFeatures(frame=row.frame, maps=maps, measures=measures)


class PeakMemory:
    """While entered, looks at the memory of this process and its children; `bytes` is its peak."""

    def __enter__(self) -> "PeakMemory":
        self.bytes = _memory_bytes()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._is_over.wait(LOOK_S):
            self.bytes = max(self.bytes, _memory_bytes())


def _memory_bytes() -> int:
    numbers = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
    total = 0
    for number in numbers:
        with contextlib.suppress(OSError):  # it has just ended
            rollup = Path(f"/proc/{number}/smaps_rollup").read_text()
            total += int(rollup.split("Pss:")[1].split()[0]) * 1024
    return total


def rows_of(writer: StoreWriter) -> Iterator[tuple[Shard, MeasuredFeatures]]:
    """Yield the rows of a store with their shards, all with the same values."""
    samples = writer.store.samples
    template = measured(synthetic_features(samples, 0))
    for shard in writer.pending():
        for position in range(shard.start, shard.start + len(shard.tokens)):
            yield shard, replace(template, frame=frame_as(template.frame, samples, position))


def main(argv: Sequence[str]) -> None:
    """Write the rows; print the memory in bytes, and its bound, as JSON."""
    folder, kind, width = Path(argv[0]) / "memory.zarr", argv[1], int(argv[2])
    keep_freed_memory()  # as an extraction does
    widths = choose_widths(
        width if kind == "processes" else 0, width, slots=SLOTS, batch_rows=1, writers=width
    )
    # Compressed shards, and rows that wait while their places were used before; or rows that are
    # being compressed, with what comes of them.
    besides = widths.rows + width * SLOTS if kind == "processes" else 2 * width
    samples = synthetic_samples(widths.rows + SLOTS * width)
    writer = new_store(folder, r50_800x320(), samples, rows_at_once=SLOTS)
    assert writer.store.layout.slots == SLOTS
    with ExitStack() as stack:
        sink = row_sink(writer, widths, stack)
        time.sleep(START_S)
        rows = rows_of(writer)
        before = _memory_bytes()
        peak = stack.enter_context(PeakMemory())
        rates = StageRates(dict.fromkeys(STAGES, 1))
        writers = stack.enter_context(ShardWriters(sink, Claims(writer.store), widths, rates=rates))
        for shard, row in rows:
            numbers = writers.reserve(1, meanwhile=writers.check)
            # A copy, as from a GPU.
            maps = {name: np.array(values) for name, values in row.maps.items()}
            writers.submit(shard, StoredRows([replace(row, maps=maps)]), numbers)
    shutil.rmtree(folder)
    figures = {
        "kind": kind,
        "width": width,
        "rows": len(samples.tokens),
        "rows_in_memory": widths.rows,
        "bound_mb": (widths.rows + besides) * row_bytes(writer.store.arrays) / 1e6,
        "peak_mb": (peak.bytes - before) / 1e6,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1:])
