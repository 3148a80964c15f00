"""Batches read ahead by threads.

Threads rather than processes: reading, checking and decompressing release Python's lock, and moving
what another process has decoded would cost as much as decoding it again (LOG.md). They share the
memory of the process, so the size of /dev/shm does not matter. Every sample is decoded straight
into its batch.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence, Sized
from concurrent.futures import Future, wait
from functools import partial
from math import ceil

import torch

from shared.data.batch import Batch, BatchBuffer
from shared.data.batch_memory import BatchMemory
from shared.data.features import Frame
from shared.data.sensor_drop import NOTHING, Absent
from shared.process.device import available_device
from stage2_train.data.dataset import StoreDataset
from stage2_train.data.loader_threads import LoaderThreads
from stage2_train.data.sampler import CLEAN, Place

AHEAD_PER_WORKER = 2  # queued samples per thread, so that none waits while a batch is late
EVALUATION_BATCH = 4  # samples in a batch of an evaluation
WAKING_S = 1.0  # how often a wait for a thread is left to see whether a signal has come
MOST_WORKERS = 8  # by default: on an H200 15 threads slow down the thread that queues work
WORKERS_HELP = (
    "loader threads%s; 0 loads in the thread that computes. Default: of the cores that this "
    "process may use%s, all but one and at most 8 with a GPU, half of them on a CPU, where "
    "loading competes with computing. The result is the same for any number. Threads need no "
    "/dev/shm"
)


def default_workers(devices: int = 1) -> int:
    """Return how many loader threads a process starts unless it is told.

    With a GPU, one core is left to the thread that queues its work. On a CPU, training itself uses
    all cores, and a sample is loaded much faster than it is trained on: half of the cores can keep
    ahead, and most of the time they wait.

    Args:
        devices: processes of this run on this machine, which share its cores; torchrun's own number
            overrides it.
    """
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", devices))
    share = available_cores() // max(1, processes)
    if available_device().type == "cuda":
        return min(max(1, share - 1), MOST_WORKERS)
    return min(share // 2, MOST_WORKERS)


def available_cores() -> int:
    """Return the number of cores that this process may use, which a job's limits can lower."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def batches_ahead(workers: int, batch_size: int) -> int:
    """Return how many batches are read while an earlier one is in use.

    `AHEAD_PER_WORKER` samples for each thread, rounded up to whole batches, so at least one batch:
    one batch of 16 for 8 threads, 8 batches of 2. Besides these, one batch is in use and one is
    being handed over, so a device needs at most

        (batches_ahead + 2) x batch_size x bytes of a sample (float16 or 8 bit, as stored)

    of memory, page-locked with a GPU: 1.2 GB for batches of 16 and 8 threads at r50_800x320 (24.7
    MB a sample), 3.0 GB at vov_1600x640 (61.6 MB).
    """
    return ceil(AHEAD_PER_WORKER * workers / batch_size)


class BatchLoader:
    """The batches of a dataset in a fixed order; each iteration has its own threads.

    Threads end with their iterator: when it is exhausted, closed or dropped. One that hangs is left
    behind. How much memory they fill ahead is said in `batches_ahead`.

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
        threads = LoaderThreads(self.workers)
        try:
            yield from self._read_ahead(threads)
        finally:
            threads.close()

    def _read_ahead(self, threads: LoaderThreads) -> Iterator[Batch]:
        ahead: deque[tuple[BatchBuffer, Sequence[Place], list[Future[Frame]]]] = deque()
        for places in self.batches:
            buffer = self._buffer(places)
            reads = [
                threads.submit(partial(self._read, buffer, i, place))
                for i, place in enumerate(places)
            ]
            ahead.append((buffer, places, reads))
            if len(ahead) > batches_ahead(self.workers, len(places)):
                yield _finished(*ahead.popleft())
        while ahead:
            yield _finished(*ahead.popleft())

    def _buffer(self, places: Sequence[Place]) -> BatchBuffer:
        return BatchBuffer(self.dataset.blank_maps, len(places), self._memory)

    def _read(self, buffer: BatchBuffer, position: int, place: Place) -> Frame:
        return self.dataset.read(place, buffer.sample(position))


def _finished(buffer: BatchBuffer, places: Sequence[Place], reads: list[Future[Frame]]) -> Batch:
    return _batch(buffer, places, [_result(read) for read in reads])


def _result(read: Future[Frame]) -> Frame:
    """Return what a thread has read; a thread that hangs does not keep signals from being seen.

    Python handles a signal in the main thread, between two of its instructions. One that arrives
    after the last of them and before the wait for a lock has begun does not interrupt that wait.
    """
    while not read.done():
        wait([read], WAKING_S)
    return read.result()


def _batch(buffer: BatchBuffer, places: Sequence[Place], frames: list[Frame]) -> Batch:
    return buffer.batch(frames, [place.label for place in places])


def evaluation_places(
    samples: int, batch_size: int, absent: Absent = NOTHING, condition: str = CLEAN
) -> list[list[Place]]:
    """Return batches of every sample once, in order, as recorded (variant 0).

    Args:
        samples: how many.
        batch_size: samples per batch; the last one may be smaller.
        absent: sensors to leave out of all samples.
        condition: that all samples are under, one of the dataset's.
    """
    places = [Place(0, index, absent, condition=condition) for index in range(samples)]
    return [places[i : i + batch_size] for i in range(0, samples, batch_size)]


def evaluation_batches(
    dataset: StoreDataset,
    batch_size: int,
    workers: int,
    absent: Absent = NOTHING,
    condition: str = CLEAN,
) -> BatchLoader:
    """Return a loader of every sample once, as recorded (variant 0), in the dataset's order.

    Args:
        dataset: what to read from.
        batch_size: see `evaluation_places`.
        workers: see `BatchLoader`.
        absent: see `evaluation_places`.
        condition: see `evaluation_places`.

    Raises:
        CacheError: if sensors are absent and the store has no null features.
        ConfigError: if the preset has no others.
    """
    if absent:
        dataset.require_droppable((absent,))
    places = evaluation_places(len(dataset), batch_size, absent, condition)
    return BatchLoader(dataset, places, workers)
