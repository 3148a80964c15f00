"""Batches read ahead by threads.

Threads rather than processes: reading, checking and decompressing release Python's lock, and moving
what another process has decoded would cost as much as decoding it again (LOG.md). Every sample is
decoded straight into its batch.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from math import ceil

import torch

from shared.data.batch import Batch, BatchBuffer
from shared.data.batch_memory import BatchMemory
from shared.data.features import Frame
from shared.data.sensor_drop import NOTHING, Absent, condition
from stage2_train.data.dataset import StoreDataset
from stage2_train.data.sampler import Place

AHEAD_PER_WORKER = 2  # queued samples per thread, so that none waits while a batch is late


class BatchLoader:
    """The batches of a dataset in a fixed order; each iteration has its own threads.

    Threads end with their iterator: when it is exhausted, closed or dropped.

    Args:
        dataset: what to read from.
        batches: places of each batch; may be endless.
        workers: threads; 0 reads a batch in the caller's thread when it is asked for.
    """

    def __init__(
        self, dataset: StoreDataset, batches: Iterable[Sequence[Place]], workers: int
    ) -> None:
        self.dataset = dataset
        self.batches = batches
        self.workers = workers
        self._memory = BatchMemory(is_pinned=torch.cuda.is_available())

    def __len__(self) -> int:
        if not isinstance(self.batches, Sized):
            raise TypeError("the batches of training never end")
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        if not self.workers:
            for places in self.batches:
                buffer = self._buffer(places)
                frames = [self._read(buffer, i, place) for i, place in enumerate(places)]
                yield _batch(buffer, places, frames)
            return
        # Not `with`: what is queued when the iterator is dropped must not be read any more.
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="loader")
        try:
            yield from self._read_ahead(pool)
        finally:
            pool.shutdown(cancel_futures=True)

    def _read_ahead(self, pool: ThreadPoolExecutor) -> Iterator[Batch]:
        ahead: deque[tuple[BatchBuffer, Sequence[Place], list[Future[Frame]]]] = deque()
        for places in self.batches:
            buffer = self._buffer(places)
            reads = [pool.submit(self._read, buffer, i, place) for i, place in enumerate(places)]
            ahead.append((buffer, places, reads))
            if len(ahead) > ceil(AHEAD_PER_WORKER * self.workers / len(places)):
                yield _finished(*ahead.popleft())
        while ahead:
            yield _finished(*ahead.popleft())

    def _buffer(self, places: Sequence[Place]) -> BatchBuffer:
        return BatchBuffer(self.dataset.blank_maps, len(places), self._memory)

    def _read(self, buffer: BatchBuffer, position: int, place: Place) -> Frame:
        return self.dataset.read(place, buffer.sample(position))


def _finished(buffer: BatchBuffer, places: Sequence[Place], reads: list[Future[Frame]]) -> Batch:
    return _batch(buffer, places, [read.result() for read in reads])


def _batch(buffer: BatchBuffer, places: Sequence[Place], frames: list[Frame]) -> Batch:
    return buffer.batch(frames, [condition(place.absent) for place in places])


def evaluation_places(samples: int, batch_size: int, absent: Absent = NOTHING) -> list[list[Place]]:
    """Return batches of every sample once, in order, as recorded (variant 0).

    Args:
        samples: how many.
        batch_size: samples per batch; the last one may be smaller.
        absent: sensors to leave out of all samples.
    """
    places = [Place(0, index, absent) for index in range(samples)]
    return [places[i : i + batch_size] for i in range(0, samples, batch_size)]


def evaluation_batches(
    dataset: StoreDataset, batch_size: int, workers: int, absent: Absent = NOTHING
) -> BatchLoader:
    """Return a loader of every sample once, as recorded (variant 0), in the dataset's order.

    Args:
        dataset: what to read from.
        batch_size: see `evaluation_places`.
        workers: see `BatchLoader`.
        absent: see `evaluation_places`.

    Raises:
        CacheError: if sensors are absent and the store has no null features.
        ConfigError: if the preset has no others.
    """
    if absent:
        dataset.require_droppable((absent,))
    return BatchLoader(dataset, evaluation_places(len(dataset), batch_size, absent), workers)
