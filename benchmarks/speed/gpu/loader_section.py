"""How fast the loader reads a store by number of threads, against the codec's own speed.

No step is taken and nothing is copied to the device; maps are read into page-locked memory where
there is a GPU. The codec decodes the same bytes from memory in as many threads.
"""

import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from benchmarks.speed.gpu.cases import Cases, Row
from benchmarks.speed.gpu.section_request import SectionRequest
from benchmarks.speed.gpu.training_case import store_batches
from benchmarks.speed.store.loading import sealed_rows
from cache.coordination.store import open_store
from cache.format.codec import CODECS
from cache.format.schema import ArraySpec
from cache.reader import CachedFeatures
from shared.process.cores import available_cores
from stage2_train.data.loader import default_workers
from stage2_train.data.sampler import Place

BATCH_SIZE = 16
WINDOW_S = 2.0
QUICK_WINDOW_S = 0.1
CODEC_SAMPLES = 4
MEGABYTE = 1e6


def measure_loader_alone(request: SectionRequest, cases: Cases) -> None:
    """Measure the loader and the codec for every number of threads."""
    store = CachedFeatures(request.store)
    window_s = QUICK_WINDOW_S if request.is_quick else WINDOW_S
    cores = available_cores()
    numbers = {0, 1, 2, 4, 8, default_workers(), cores - 1, cores}
    for workers in sorted(number for number in numbers if number <= cores):
        cases.run({"threads": workers}, partial(_speeds, store, workers, window_s))


def _speeds(store: CachedFeatures, workers: int, window_s: float) -> Row:
    loader = _loader_speed(store, workers, window_s)
    codec = _codec_speed(store, max(1, workers), window_s)
    return {
        "samples_per_s": loader,
        "codec_samples_per_s": codec,
        "share_of_codec": loader / codec,
        "sample_mb": sum(map_.nbytes for map_ in store.blank_maps.values()) / MEGABYTE,
    }


def _loader_speed(store: CachedFeatures, workers: int, window_s: float) -> float:
    """Return samples per second, after as many batches as are read ahead."""
    size = min(BATCH_SIZE, len(store.tokens))
    batches = store_batches(store, _in_turn(len(store.tokens), size), workers)
    for _ in range(1 + 2 * workers // size):
        next(batches)
    started, samples = time.perf_counter(), 0
    while (seconds := time.perf_counter() - started) < window_s:
        samples += len(next(batches).tokens)
    return samples / seconds


def _in_turn(count: int, size: int) -> Iterator[list[Place]]:
    numbers = itertools.cycle(range(count))
    while True:
        yield [Place(0, number) for number in itertools.islice(numbers, size)]


def _codec_speed(store: CachedFeatures, threads: int, window_s: float) -> float:
    """Return samples per second that as many threads decode from memory."""
    samples = min(CODEC_SAMPLES, len(store.tokens))
    rows = sealed_rows(open_store(store.path), tuple(range(samples)))
    deadline = time.perf_counter() + window_s
    with ThreadPoolExecutor(threads) as pool:
        decoded = list(pool.map(lambda _: _decoded_until(rows, deadline), range(threads)))
    return sum(maps_per_s for maps_per_s in decoded) / (len(rows) / samples)


def _decoded_until(rows: list[tuple[ArraySpec, bytes]], deadline: float) -> float:
    """Decode maps in turn; return maps per second."""
    started, count = time.perf_counter(), 0
    while time.perf_counter() < deadline or count % len(rows):
        spec, row = rows[count % len(rows)]
        CODECS[spec.codec].decode_row(row, spec.shape, spec.dtype)
        count += 1
    return count / (time.perf_counter() - started)
