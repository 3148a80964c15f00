"""Batches read ahead by threads.

Threads rather than a process for each: reading, checking and decompressing release Python's lock,
and what another process has decoded would have to be moved (LOG.md). They share the memory of the
process, so the size of /dev/shm does not matter. Every sample is decoded straight into its batch.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence, Sized

import torch

from shared.data.batch import Batch, BatchBuffer
from shared.data.batch_memory import BatchMemory
from shared.data.sensor_drop import NOTHING, Absent
from shared.process.cores import core_share
from shared.process.device import available_device
from stage2_train.data.dataset import StoreDataset
from stage2_train.data.loader_process import process_batches
from stage2_train.data.loading_options import PROCESS, THREADS
from stage2_train.data.reading_ahead import ReadBatch, read_ahead
from stage2_train.data.sampler import CLEAN, Place

EVALUATION_BATCH = 4  # samples in a batch of an evaluation
MOST_WORKERS = 8  # by default: on an H200 15 threads slow down the thread that queues work


def default_workers(devices: int = 1) -> int:
    """Return how many loader threads a process starts unless it is told.

    With a GPU, one core is left to the thread that queues its work. On a CPU, training itself uses
    all cores, and a sample is loaded much faster than it is trained on: half of the cores can keep
    ahead, and most of the time they wait.

    Args:
        devices: processes of this run on this machine, which share its cores; torchrun's own number
            overrides it.
    """
    share = core_share(max(1, devices))
    if available_device().type == "cuda":
        return min(max(1, share - 1), MOST_WORKERS)
    return min(share // 2, MOST_WORKERS)


class BatchLoader:
    """The batches of a dataset in a fixed order; each iteration has its own threads.

    Threads end with their iterator: when it is exhausted, closed or dropped. One that hangs is left
    behind. How much memory they fill ahead is said in `batches_ahead`.

    Args:
        dataset: what to read from.
        batches: places of each batch; may be endless.
        workers: threads; 0 reads a batch in the caller's thread when it is asked for.
        loader: one of `LOADERS`: whether they are threads of this process or of one of their own,
            see `stage2_train.data.loader_process`.
    """

    def __init__(
        self,
        dataset: StoreDataset,
        batches: Iterable[Sequence[Place]],
        workers: int,
        loader: str = THREADS,
    ) -> None:
        self.dataset = dataset
        self.batches = batches
        self.workers = workers
        self.loader = loader
        self._memory = BatchMemory(is_pinned=torch.cuda.is_available())

    def __len__(self) -> int:
        if not isinstance(self.batches, Sized):
            raise TypeError("the batches of training never end")
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        if self.loader == PROCESS:
            return process_batches(self.dataset, self.batches, self.workers, self._buffer)
        return self._thread_batches()

    def _thread_batches(self) -> Iterator[Batch]:
        reads = read_ahead(self.dataset, self.batches, self.workers, self._buffer)
        with contextlib.closing(reads):
            yield from map(_batch, reads)  # which keeps no batch while its user has it

    def _buffer(self, places: Sequence[Place]) -> BatchBuffer:
        return BatchBuffer(self.dataset.blank_maps, len(places), self._memory)


def _batch(read: ReadBatch[BatchBuffer]) -> Batch:
    buffer, places, frames = read
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
