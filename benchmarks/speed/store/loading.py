"""Time stage 2's loader on a store, and the codec alone on the same bytes and cores."""

import multiprocessing
import time
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from queue import Queue
from threading import Barrier

from benchmarks.speed.store.sample_rows import Rows
from benchmarks.speed.store.timing import Timing, timed
from cache.coordination.store import Store, open_store
from cache.format.codec import CODECS, Payload, seal
from cache.format.schema import ArraySpec
from cache.format.shard_file import read_row
from cache.reader import CachedFeatures
from stage2_train.data.dataset import StoreDataset
from stage2_train.data.loader import BatchLoader
from stage2_train.data.reading_ahead import AHEAD_PER_WORKER
from stage2_train.data.sampler import EpochSampler, Place

BATCH_SIZE = 2
EPOCHS = 2  # of a timed window: long compared with the batches prefetched at its ends
WINDOWS = 2
SEED = 0


class InSequence(EpochSampler):
    """Every sample in the store's order, endlessly."""

    def __iter__(self) -> Iterator[list[Place]]:
        while True:
            for start in range(0, self.steps_per_epoch * self.batch_size, self.batch_size):
                yield [Place(0, sample) for sample in range(start, start + self.batch_size)]


ORDERS = {"random": EpochSampler, "sequence": InSequence}


def time_loader(rows: Rows, order: str, workers: int, best: Timing) -> None:
    """Time reading all rows once; starting the threads does not count."""
    dataset = StoreDataset(CachedFeatures(rows.store.path), rows.tokens)
    sampler = ORDERS[order](len(rows.tokens), BATCH_SIZE, SEED)
    steps = EPOCHS * sampler.steps_per_epoch
    warm_up = sampler.steps_per_epoch + AHEAD_PER_WORKER * workers
    # A finite list, so that the last window prefetches as many batches as the one before it.
    places = list(islice(sampler, warm_up + WINDOWS * steps))
    batches = iter(BatchLoader(dataset, places, workers))
    for _ in range(warm_up):
        next(batches)
    share = len(rows.tokens) / (steps * sampler.batch_size)
    for _ in range(WINDOWS):
        window = Timing()
        with timed(window):
            for _ in range(steps):
                next(batches)
        best.keep_best(Timing(window.wall_s * share, window.cpu_s * share))
    assert next(batches, None) is None


def time_codec(rows: Rows, processes: int, best: Timing) -> None:
    """Time decoding all rows once, from memory, with the work shared by some processes."""
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(processes), context.Queue()
    arguments = (rows.store.path, rows.positions, start, results)
    workers = [context.Process(target=_decode, args=arguments) for _ in range(processes)]
    for worker in workers:
        worker.start()
    windows = [results.get() for _ in range(WINDOWS * processes)]
    for worker in workers:
        worker.join()
    for number in range(WINDOWS):
        _, began, ended, cpu_s = zip(
            *(window for window in windows if window[0] == number), strict=True
        )
        share = 1 / (EPOCHS * processes)  # every process decodes all rows
        best.keep_best(Timing((max(ended) - min(began)) * share, sum(cpu_s) * share))


def checked_rows(store: Store, positions: tuple[int, ...]) -> Iterator[tuple[ArraySpec, Payload]]:
    """Read the encoded feature maps of rows of variant 0, all into the same memory."""
    for spec in (array for array in store.arrays if array.feature_map is not None):
        for position in positions:
            shard, slot = store.layout.locate(0, position)
            path = store.file(spec, shard)
            yield spec, read_row(path, slot, store.layout.slots, is_passing=True)


def sealed_rows(store: Store, positions: tuple[int, ...]) -> list[tuple[ArraySpec, bytes]]:
    """Return the feature maps of rows of variant 0 as they are on disk."""
    return [(spec, seal(row.tobytes())) for spec, row in checked_rows(store, positions)]


def _decode(
    path: Path,
    positions: tuple[int, ...],
    start: Barrier,
    results: "Queue[tuple[int, float, float, float]]",
) -> None:
    """Decode all rows repeatedly; report the number, start, end and CPU time of each window."""
    sealed = sealed_rows(open_store(path), positions)
    for number in range(-1, WINDOWS):  # -1 warms up
        start.wait()
        cpu_s, began = time.process_time(), time.perf_counter()
        for spec, row in chain.from_iterable([sealed] * EPOCHS):
            CODECS[spec.codec].decode_row(row, spec.shape, spec.dtype)
        if number >= 0:
            ended = time.perf_counter()
            results.put((number, began, ended, time.process_time() - cpu_s))
