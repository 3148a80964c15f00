"""Loads and joins the samples of the next batches while the present one is computed.

Samples are loaded one by one in processes, or without any in a thread. Nothing waits for a process
that hangs: a thread of its own collects the samples, and `RawLoader.batches` looks up from its
queue several times a second.
"""

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from cache.format.layout import Shard
from shared.errors import DatasetError
from stage1_extract.backbones.live import LiveFeatures, RawBatch, join_raw
from stage1_extract.extraction.stages.loader_processes import (
    Loaded,
    LoaderProcesses,
    Place,
    load_timed,
)
from stage1_extract.extraction.stages.process_pool import DIED
from stage1_extract.extraction.stages.stage_rates import StageRates
from stage1_extract.extraction.stages.stage_widths import AHEAD, most_raw_bytes, samples_in_flight

POLL_S = 0.2  # how soon a signal or an error is noticed while waiting
READY_BATCHES = 1  # joined and waiting, besides the batch being joined

Planned = tuple[Shard, list[Place]]  # a batch, none of which spans two shards


@dataclass(frozen=True, slots=True)
class LoadedBatch:
    """A batch for the backbones.

    Args:
        shard: all its samples belong to.
        raw: the samples.
    """

    shard: Shard
    raw: RawBatch


class SamplePool(Protocol):
    """Loads several samples at a time: `loader_processes.LoaderProcesses`."""

    def load(self, place: Place) -> Future[Loaded]:
        """Begin to load a sample."""


class RawLoader:
    """Loads batches in their order; leaving the context ends its processes, whatever they do.

    Memory: `samples_in_flight`, and the batches of which one is computed, one waits and one is
    joined.

    Args:
        live: loads the samples.
        planned: the batches; an item is taken only when a process has time for it.
        batch_size: samples of the largest batch.
        workers: processes, or what `pool` does at a time; 0 loads in a thread of this process.
        is_padded: whether a smaller batch is filled up, see `join_raw`.
        rates: told how long samples take.
        pool: loads the samples instead of processes of its own; it is left open.
    """

    def __init__(
        self,
        live: LiveFeatures,
        planned: Iterable[Planned],
        *,
        batch_size: int,
        workers: int,
        is_padded: bool,
        rates: StageRates,
        pool: SamplePool | None = None,
    ) -> None:
        self._frames, self._planned, self._rates = live.raw, planned, rates
        self._padded_size = batch_size if is_padded else 0
        self._is_pinned = live.frozen.device.type == "cuda"
        self._ahead = AHEAD * workers
        self._processes: LoaderProcesses | None = None
        self.most_bytes = 0  # of memory that processes fill
        if workers and pool is None:
            in_flight = samples_in_flight(batch_size, workers)
            sample_bytes = most_raw_bytes(live.raw.preset)
            self.most_bytes = in_flight * sample_bytes
            self._processes = LoaderProcesses(
                live.raw, workers, sample_bytes=sample_bytes, in_flight=in_flight
            )
        self._pool: SamplePool | None = self._processes if pool is None else pool
        self._ready: queue.Queue[LoadedBatch | BaseException | None] = queue.Queue(READY_BATCHES)
        self._is_closed = threading.Event()
        # A daemon: a thread that hangs on a file must not keep the process alive.
        self._thread = threading.Thread(target=self._collect, name="raw-loader", daemon=True)

    def __enter__(self) -> "RawLoader":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._is_closed.set()
        if self._processes is not None:
            self._processes.close()
        self._thread.join(timeout=1)

    def batches(self, meanwhile: Callable[[], None]) -> Iterator[LoadedBatch]:
        """Yield batch after batch.

        Args:
            meanwhile: called while waiting; whatever it raises ends the wait.

        Raises:
            DatasetError: if a raw file is missing or damaged, or a process died.
        """
        while True:
            try:
                item = self._ready.get(timeout=POLL_S)
            except queue.Empty:
                meanwhile()
                continue
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item

    def _collect(self) -> None:
        """Load and join until there is nothing left."""
        end: BaseException | None = None
        try:
            for shard, samples in self._begun():
                loaded = [sample.result() for sample in samples]
                for _, seconds in loaded:
                    self._rates.add("loading", seconds)
                raw = join_raw(
                    [frame for frame, _ in loaded],
                    size=self._padded_size,
                    is_pinned=self._is_pinned,
                    is_copied=self._processes is not None,
                )
                self._put(LoadedBatch(shard, raw))
                if self._is_closed.is_set():
                    return
        except BaseException as error:  # raised again by `batches`, in the computing thread
            end = _explained(error)
        self._put(end)

    def _begun(self) -> Iterator[tuple[Shard, list[Future[Loaded]]]]:
        """Yield batch after batch, with `_ahead` samples begun beyond it."""
        begun: deque[tuple[Shard, list[Future[Loaded]]]] = deque()
        samples = 0
        for shard, places in self._planned:
            begun.append((shard, [self._begin(place) for place in places]))
            samples += len(places)
            while samples > self._ahead:
                samples -= len(begun[0][1])
                yield begun.popleft()
        yield from begun

    def _begin(self, place: Place) -> Future[Loaded]:
        if self._pool is not None:
            return self._pool.load(place)
        loaded: Future[Loaded] = Future()
        loaded.set_result(load_timed(self._frames, place))
        return loaded

    def _put(self, item: LoadedBatch | BaseException | None) -> None:
        while not self._is_closed.is_set():
            with contextlib.suppress(queue.Full):
                self._ready.put(item, timeout=POLL_S)
                return


def _explained(error: BaseException) -> BaseException:
    """Return the error to raise: what the system did to a process says nothing to a user."""
    if isinstance(error, BrokenProcessPool):
        return DatasetError(f"a process that loads raw files {DIED}")
    return error
