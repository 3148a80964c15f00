"""Encodes rows in a pool of threads, and writes every shard as soon as its last row is encoded."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol

from cache.coordination.claims import Claims
from cache.encoded_row import EncodedRow
from cache.format.layout import Shard
from cache.writer import StoreWriter
from shared.data.features import FrameFeatures
from shared.process.memory.freed_memory import keep_freed_memory
from stage1_extract.extraction.stage_rates import StageRates

log = logging.getLogger(__name__)

POLL_S = 0.2  # how soon a signal or an error is noticed while waiting


class ComputedRows(Protocol):
    """Rows of a shard that are computed or being computed: `device_pass.ComputedBatch`."""

    samples: int  # that the rows are of

    def __len__(self) -> int: ...

    def row(self, index: int) -> FrameFeatures:
        """Return a row, once it is computed; any thread may ask."""

    def seconds(self) -> float:
        """Return how long computing took, once all rows are."""


@dataclass(slots=True)
class _OpenShard:
    """A shard some of whose rows are computed."""

    shard: Shard
    encoded: list[EncodedRow] = field(default_factory=list)
    tasks: list[Future[None]] = field(default_factory=list)
    seconds: float = 0.0
    is_dropped: bool = False

    @property
    def is_computed(self) -> bool:
        """Whether every row has a task."""
        return len(self.tasks) == len(self.shard.tokens)


class ShardWriters:
    """Writes several shards at a time; leaving the context finishes those that are computed.

    NumPy, the compressors, digests and the disk run without Python's global lock, so these threads
    hardly slow down the computing thread, and scale with the cores. A row stays in memory, as
    float16 and later compressed, from `reserve` until its shard is written.

    Args:
        writer: of the store.
        claims: a shard is released once it is written.
        threads: that encode.
        rows_in_memory: at most; at least the rows of a shard, see `stage_widths.rows_in_memory`.
        rates: told how long rows take.
    """

    def __init__(
        self,
        writer: StoreWriter,
        claims: Claims,
        *,
        threads: int,
        rows_in_memory: int,
        rates: StageRates,
    ) -> None:
        assert rows_in_memory >= writer.store.layout.slots, "a shard would never be complete"
        keep_freed_memory()
        self._writer, self._claims, self._rates = writer, claims, rates
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="shard-writer")
        self._room = threading.Semaphore(rows_in_memory)
        self._lock = threading.Lock()
        self._open: dict[int, _OpenShard] = {}
        self._errors: list[BaseException] = []
        self.finished = 0  # shards on disk, with their ledger entries

    def __enter__(self) -> "ShardWriters":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.finish()
        self._pool.shutdown()
        try:
            if error is None:
                self.check()
            for late in self._errors:
                if late is not error:
                    log.error("a shard that was being written is lost as well: %s", late)
        finally:
            self._claims.release_all()

    def reserve(self, rows: int, meanwhile: Callable[[], None]) -> None:
        """Wait until there is memory for more rows.

        Args:
            rows: of the next batch.
            meanwhile: called while waiting; whatever it raises ends the wait.
        """
        for _ in range(rows):
            while not self._room.acquire(timeout=POLL_S):
                meanwhile()

    def submit(self, shard: Shard, batch: ComputedRows) -> None:
        """Encode the next rows of a shard, whose memory is reserved; returns at once."""
        with self._lock:
            opened = self._open.setdefault(shard.index, _OpenShard(shard))
        for index in range(len(batch)):
            opened.tasks.append(self._pool.submit(self._encode, opened, batch, index))

    def finish(self) -> None:
        """Wait until every shard that is computed is written or has failed; drop the others."""
        with self._lock:
            opened = list(self._open.values())
        for shard in opened:
            shard.is_dropped = not shard.is_computed
        wait([task for shard in opened if shard.is_computed for task in shard.tasks])

    def check(self) -> None:
        """Raise the first error of a shard, if any has failed by now.

        Raises:
            CacheError: see `StoreWriter.write_shard`.
        """
        if self._errors:
            raise self._errors[0]

    def _encode(self, opened: _OpenShard, batch: ComputedRows, index: int) -> None:
        """Encode a row, and write its shard if it was the last."""
        if opened.is_dropped:
            return
        try:
            features = batch.row(index)
            if not index:
                self._rates.add("computing", batch.seconds(), batch.samples)
            started = time.monotonic()
            encoded = self._writer.encode(features)
            seconds = time.monotonic() - started
            self._rates.add("writing", seconds, samples=batch.samples / len(batch))
            with self._lock:
                opened.seconds += seconds
                opened.encoded.append(encoded)
                is_last = len(opened.encoded) == len(opened.shard.tokens)
            if is_last:
                self._write(opened)
        except BaseException as error:  # raised again by `check`, in the computing thread
            self._errors.append(error)
            opened.is_dropped = True

    def _write(self, opened: _OpenShard) -> None:
        started = time.monotonic()
        self._writer.write_encoded(opened.shard, opened.encoded, seconds=opened.seconds)
        self._rates.add("writing", time.monotonic() - started, samples=0)
        with self._lock:
            del self._open[opened.shard.index]
            self.finished += 1
        self._claims.release(opened.shard.index)
        self._room.release(len(opened.encoded))
