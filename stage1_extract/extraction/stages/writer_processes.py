"""Processes that encode and write shards, one at a time each.

They come after the thread that queues work for a GPU, see `process_pool`. Threads could not: one
that waits for a core would keep Python's lock from it. Computed rows reach the processes in memory
that all of them map.
"""

import time
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import cache
from types import TracebackType

from cache.coordination.store import Store
from cache.format.layout import Shard
from cache.storage.location import absolute_place
from cache.storage.protocol import StorePath
from cache.writer import StoreWriter
from shared.data.features import FrameFeatures
from shared.errors import CacheError
from stage1_extract.extraction.stages.process_pool import DIED, ProcessPool
from stage1_extract.extraction.stages.row_memory import RowMemory
from stage1_extract.extraction.stages.stage_widths import Widths

PlacedRow = tuple[int, FrameFeatures]  # its place in memory, and the row without its maps


class WriterProcesses:
    """A `shard_writers.RowSink` with a pool of processes; leaving the context ends them.

    Args:
        store: whose shards they write.
        widths: how many processes, and how many places for rows.

    Raises:
        ConfigError: see `SharedSlots`.
    """

    def __init__(self, store: Store, widths: Widths) -> None:
        self._memory = RowMemory(store.arrays, widths.rows)
        path = absolute_place(store.path)
        self._pool = ProcessPool(widths.writers, _prepare_process, path, self._memory)
        self._pool.start()

    def __enter__(self) -> "WriterProcesses":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._pool.close()  # a shard that is not complete does not exist
        self._memory.close_file()

    def put(self, number: int, row: FrameFeatures) -> PlacedRow:
        """Copy the maps of a row, float16, to a place that no other row needs any more."""
        self._memory.put(number, row.maps)
        return number, replace(row, maps={})

    def write(self, shard: Shard, rows: Sequence[PlacedRow], seconds: float) -> float:
        """Let a process write a shard, see `RowSink`.

        Raises:
            CacheError: as `StoreWriter.write_shard`, or if the process died.
        """
        try:
            return self._pool.submit(_write, shard.index, rows).result()
        except BrokenProcessPool:
            raise CacheError(f"a process that writes shards {DIED}") from None


_SENT: list[tuple[StorePath, RowMemory]] = []  # to a writer process


def _prepare_process(path: StorePath, memory: RowMemory) -> None:
    _SENT[:] = [(path, memory)]


@cache
def _writer() -> StoreWriter:
    return StoreWriter(_SENT[0][0])  # not before a task, so that its error is the task's


def _write(shard: int, rows: Sequence[PlacedRow]) -> float:
    started = time.monotonic()
    writer, memory = _writer(), _SENT[0][1]
    features = [replace(row, maps=memory.maps(number)) for number, row in rows]
    writer.write_shard(writer.store.shard(shard), features)
    return time.monotonic() - started
