"""Batches read ahead by threads.

Threads, not processes: reading, checking and decompressing leave Python's lock alone, and what
another process has decoded would have to be moved here at the price of decoding it once more
(LOG.md). Every sample is decoded straight into its batch.
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

AHEAD_PER_WORKER = 2  # samples in line for each thread, so that none waits while one batch is late


class BatchLoader:
    """The batches of a dataset in a given order; each iteration has threads of its own.

    Threads end with their iterator: when it is exhausted, closed or dropped.

    Args:
        dataset: what to read from.
        batches: places of each batch; may be endless.
        workers: threads; 0 reads where and when a batch is asked for.
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
                yield _batch(
                    buffer, places, [self._read(buffer, *one) for one in enumerate(places)]
                )
            return
        # Not `with`: what is in line when the iterator is dropped shall not be read any more.
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="loader")
        try:
            yield from self._read_ahead(pool)
        finally:
            pool.shutdown(cancel_futures=True)

    def _read_ahead(self, pool: ThreadPoolExecutor) -> Iterator[Batch]:
        ahead: deque[tuple[BatchBuffer, Sequence[Place], list[Future[Frame]]]] = deque()
        for places in self.batches:
            buffer = self._buffer(places)
            reads = [pool.submit(self._read, buffer, *one) for one in enumerate(places)]
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
    return _batch(buffer, places, [one.result() for one in reads])


def _batch(buffer: BatchBuffer, places: Sequence[Place], frames: list[Frame]) -> Batch:
    return buffer.batch(frames, [condition(one.absent) for one in places])


def evaluation_batches(
    dataset: StoreDataset, batch_size: int, workers: int, absent: Absent = NOTHING
) -> BatchLoader:
    """Return a loader of every sample once, as recorded (variant 0), in the dataset's order.

    Args:
        dataset: what to read from.
        batch_size: samples per batch; the last one may be smaller.
        workers: see `BatchLoader`.
        absent: sensors to leave out of all samples.

    Raises:
        CacheError: if there are some and the store has no null features.
        ConfigError: if the preset has no others.
    """
    if absent:
        dataset.require_droppable((absent,))
    places = [Place(0, index, absent) for index in range(len(dataset))]
    batches = [places[i : i + batch_size] for i in range(0, len(places), batch_size)]
    return BatchLoader(dataset, batches, workers)
