"""Takes computed rows to a store, several shards at a time; each is written with its last row.

How is up to a `RowSink`: `EncodingThreads` here, or processes (`writer_processes`).
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from types import TracebackType
from typing import Generic, Protocol, TypeVar

from cache.coordination.claims import Claims
from cache.encoded_row import EncodedRow
from cache.format.layout import Shard
from cache.writer import StoreWriter
from shared.data.features import FrameFeatures
from stage1_extract.extraction.stages.stage_rates import StageRates
from stage1_extract.extraction.stages.stage_widths import Widths

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


Row = TypeVar("Row")  # what a sink makes of a row until its shard is written


class RowSink(Protocol[Row]):
    """Writes rows; threads call it side by side."""

    def put(self, number: int, row: FrameFeatures) -> Row:
        """Take a row, whose memory is not needed after this.

        Args:
            number: of its place in memory, below `Widths.rows`; no other row has it meanwhile.
            row: with its maps in float16.
        """

    def write(self, shard: Shard, rows: Sequence[Row], seconds: float) -> float:
        """Write a shard; returns once it is on disk, with its ledger entry.

        Args:
            shard: of all these rows.
            rows: from `put`, in any order.
            seconds: that `put` took for all of them.

        Returns:
            The seconds that work took.
        """


class EncodingThreads:
    """A `RowSink` that encodes in the threads that call it.

    NumPy, the compressors, digests and the disk run without Python's global lock, so they scale
    with the cores, and hardly slow down a thread that computes on a CPU.

    Args:
        writer: of the store.
    """

    def __init__(self, writer: StoreWriter) -> None:
        self._writer = writer

    def put(self, number: int, row: FrameFeatures) -> EncodedRow:
        """Encode a row."""
        return self._writer.encode(row)

    def write(self, shard: Shard, rows: Sequence[EncodedRow], seconds: float) -> float:
        """Write a shard, see `RowSink`."""
        started = time.monotonic()
        self._writer.write_encoded(shard, rows, seconds=seconds)
        return time.monotonic() - started


@dataclass(slots=True)
class _OpenShard(Generic[Row]):
    """A shard some of whose rows are computed."""

    shard: Shard
    numbers: list[int] = field(default_factory=list)
    tasks: list[Future[None]] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    seconds: float = 0.0
    is_dropped: bool = False

    @property
    def is_computed(self) -> bool:
        """Whether every row has a task."""
        return len(self.tasks) == len(self.shard.tokens)


class ShardWriters(Generic[Row]):
    """Writes several shards at a time; leaving the context finishes those that are computed.

    A KeyboardInterrupt, which is the second signal, finishes none and waits for none.

    A row stays in memory, as float16 or compressed, from `reserve` until its shard is written.

    Args:
        sink: writes them.
        claims: a shard is released once it is written.
        widths: how many threads put rows and wait for shards, and how many rows memory holds.
        rates: told how long rows take.
        on_written: told of every shard that is on disk, in some thread.
    """

    def __init__(
        self,
        sink: RowSink[Row],
        claims: Claims,
        widths: Widths,
        *,
        rates: StageRates,
        on_written: Callable[[Shard], None] = lambda _: None,
    ) -> None:
        self._sink, self._claims, self._rates = sink, claims, rates
        self._on_written = on_written
        self._pool = ThreadPoolExecutor(widths.threads, thread_name_prefix="shard-writer")
        # Places in memory; the last to be given back first, so that few are ever used.
        self._free: queue.LifoQueue[int] = queue.LifoQueue()
        for number in range(widths.rows):
            self._free.put(number)
        self._lock = threading.Lock()
        self._open: dict[int, _OpenShard[Row]] = {}
        self._errors: list[BaseException] = []
        self.finished = 0  # shards on disk, with their ledger entries

    def __enter__(self) -> "ShardWriters[Row]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        is_patient = not isinstance(error, KeyboardInterrupt)  # the second signal
        if is_patient:
            self.finish()
        self._pool.shutdown(wait=is_patient, cancel_futures=True)
        try:
            if error is None:
                self.check()
            late = [str(other) for other in self._errors if other is not error]
            for reason in dict.fromkeys(late):  # a process that died is the reason of many
                log.error("a shard that was being written is lost as well: %s", reason)
        finally:
            self._claims.release_all()

    def reserve(self, rows: int, meanwhile: Callable[[], None]) -> list[int]:
        """Wait until there is memory for more rows.

        Args:
            rows: of the next batch.
            meanwhile: called while waiting; whatever it raises ends the wait.

        Returns:
            The numbers of their places.
        """
        numbers: list[int] = []
        while len(numbers) < rows:
            try:
                numbers.append(self._free.get(timeout=POLL_S))
            except queue.Empty:
                meanwhile()
        return numbers

    def submit(self, shard: Shard, batch: ComputedRows, numbers: Sequence[int]) -> None:
        """Write the next rows of a shard; returns at once.

        Args:
            shard: of the rows.
            batch: the rows.
            numbers: of their places, from `reserve`.
        """
        with self._lock:
            opened = self._open.setdefault(shard.index, _OpenShard(shard))
        for index, number in enumerate(numbers):
            opened.numbers.append(number)
            opened.tasks.append(self._pool.submit(self._put, opened, batch, index, number))

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

    def _put(self, opened: _OpenShard[Row], batch: ComputedRows, index: int, number: int) -> None:
        """Put a row, and write its shard if it was the last."""
        if opened.is_dropped:
            return
        try:
            features = batch.row(index)
            if not index:
                self._rates.add("computing", batch.seconds(), batch.samples)
            started = time.monotonic()
            row = self._sink.put(number, features)
            seconds = time.monotonic() - started
            self._rates.add("writing", seconds, samples=batch.samples / len(batch))
            with self._lock:
                opened.seconds += seconds
                opened.rows.append(row)
                is_last = len(opened.rows) == len(opened.shard.tokens)
            if is_last:
                self._write(opened)
        except BaseException as error:  # raised again by `check`, in the computing thread
            self._errors.append(error)
            opened.is_dropped = True

    def _write(self, opened: _OpenShard[Row]) -> None:
        seconds = self._sink.write(opened.shard, opened.rows, opened.seconds)
        self._rates.add("writing", seconds, samples=0)
        with self._lock:
            del self._open[opened.shard.index]
            self.finished += 1
        self._on_written(opened.shard)
        self._claims.release(opened.shard.index)
        for number in opened.numbers:
            self._free.put(number)
