"""Samples read ahead, each straight into the memory of its batch."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, wait
from functools import partial
from math import ceil
from typing import TypeVar

from shared.data.features import Frame
from shared.data.map_arrays import MapArrays
from stage2_train.data.dataset import StoreDataset
from stage2_train.data.loader_threads import LoaderThreads
from stage2_train.data.sampler import Place

AHEAD_PER_WORKER = 2  # queued samples per thread, so that none waits while a batch is late
WAKING_S = 1.0  # how often a wait for a thread is left to see whether a signal has come

Result = TypeVar("Result")
Buffer = TypeVar("Buffer", bound=MapArrays)
ReadBatch = tuple[Buffer, Sequence[Place], list[Frame]]


def batches_ahead(workers: int, batch_size: int) -> int:
    """Return how many batches are read while an earlier one is in use.

    `AHEAD_PER_WORKER` samples for each thread, rounded up to whole batches, so at least one batch:
    one batch of 16 for 8 threads, 8 batches of 2. Besides these, one batch is in use and one is
    being handed over, so a device needs at most

        (batches_ahead + 2) x batch_size x bytes of a sample (float16 or 8 bit, as stored)

    of memory, page-locked with a GPU: 1.2 GB for batches of 16 and 8 threads at r50_800x320 (24.7
    MB a sample), 3.0 GB at vov_1600x640 (61.6 MB). A loader process and what it hands over need

        (2 x batches_ahead + 5) x batch_size x bytes of a sample.
    """
    return ceil(AHEAD_PER_WORKER * workers / batch_size)


def read_ahead(
    dataset: StoreDataset,
    batches: Iterable[Sequence[Place]],
    workers: int,
    new_buffer: Callable[[Sequence[Place]], Buffer],
) -> Generator[ReadBatch[Buffer], None, None]:
    """Yield filled buffers in the order of the batches.

    Args:
        dataset: what to read from.
        batches: places of each batch; may be endless.
        workers: threads; 0 reads a batch in the caller's thread when it is asked for.
        new_buffer: returns memory for a batch; called once for each, in their order.

    Yields:
        A buffer, the places of its samples, and their frames.
    """
    if not workers:
        for places in batches:
            buffer = new_buffer(places)
            frames = [dataset.read(place, buffer.sample(i)) for i, place in enumerate(places)]
            yield buffer, places, frames
        return
    threads = LoaderThreads(workers)
    try:
        ahead: deque[tuple[Buffer, Sequence[Place], list[Future[Frame]]]] = deque()
        for places in batches:
            buffer = new_buffer(places)
            reads = [
                threads.submit(partial(_read, dataset, place, buffer, i))
                for i, place in enumerate(places)
            ]
            ahead.append((buffer, places, reads))
            if len(ahead) > batches_ahead(workers, len(places)):
                yield _finished(*ahead.popleft())
        while ahead:
            yield _finished(*ahead.popleft())
    finally:
        threads.close()


def _read(dataset: StoreDataset, place: Place, buffer: MapArrays, position: int) -> Frame:
    return dataset.read(place, buffer.sample(position))


def _finished(
    buffer: Buffer, places: Sequence[Place], reads: list[Future[Frame]]
) -> ReadBatch[Buffer]:
    return buffer, places, [awaited(read) for read in reads]


def awaited(future: Future[Result]) -> Result:
    """Return what a thread computes; one that hangs does not keep signals from being noticed.

    Python handles a signal in the main thread, between two of its instructions. One that arrives
    after the last of them and before the wait for a lock has begun does not interrupt that wait.
    """
    while not future.done():
        wait([future], WAKING_S)
    return future.result()
