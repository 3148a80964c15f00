"""Measure where the loader's time goes: each step alone, in one process, on all rows."""

from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.speed.store.loading import BATCH_SIZE, checked_rows, sealed_rows
from benchmarks.speed.store.reading import GIGABYTE, Measured
from benchmarks.speed.store.sample_rows import Rows
from benchmarks.speed.store.timing import Timing, timed
from cache.format.codec import CODECS, unseal
from cache.format.schema import ArraySpec
from cache.reader import CachedFeatures
from shared.data.batch import BatchBuffer
from stage2_train.data.dataset import StoreDataset
from stage2_train.data.loader import BatchLoader
from stage2_train.data.sampler import Place

DECODE = "codec alone (with checksum)"


def measure_steps(rows: Rows, passes: int) -> list[Measured]:
    """Measure what the loader does with a batch, step by step."""
    source = CachedFeatures(rows.store.path)
    sealed = sealed_rows(rows.store, rows.positions)
    dataset = StoreDataset(source, rows.tokens)
    places = [Place(0, sample) for sample in range(len(dataset))]
    batches = [places[i : i + BATCH_SIZE] for i in range(0, len(places), BATCH_SIZE)]
    steps: dict[str, Callable[[], Any]] = {
        "reading the bytes, with checksum": partial(_read_bytes, rows),
        "checksum of bytes in memory": partial(_checksum, sealed),
        DECODE: partial(_decode, sealed),
        "geometry and annotations": lambda: [source.frame(token) for token in rows.tokens],
        "CachedFeatures.read": partial(_read, source, rows.tokens),
        "reading into the same memory": partial(_read_into, dataset, places),
        "reading into batches (the loader)": partial(_load, BatchLoader(dataset, batches, 0)),
    }
    best = {name: Timing() for name in steps}
    for _ in range(passes):
        for name, step in steps.items():
            with timed(best[name]):
                step()
    gigabytes = rows.map_bytes / GIGABYTE
    return [
        {
            "what": name,
            "wall_s_per_gb": timing.wall_s / gigabytes,
            "cpu_s_per_gb": timing.cpu_s / gigabytes,
            "of_codec": timing.cpu_s / best[DECODE].cpu_s,
        }
        for name, timing in best.items()
    ]


def _read_bytes(rows: Rows) -> None:
    for _ in checked_rows(rows.store, rows.positions):
        pass


def _checksum(sealed: list[tuple[ArraySpec, bytes]]) -> None:
    for _, row in sealed:
        unseal(row)


def _decode(sealed: list[tuple[ArraySpec, bytes]]) -> None:
    for spec, row in sealed:
        CODECS[spec.codec].decode_row(row, spec.shape, spec.dtype)


def _read(source: CachedFeatures, tokens: tuple[str, ...]) -> None:
    for token in tokens:
        source.read([token])


def _read_into(dataset: StoreDataset, places: list[Place]) -> None:
    maps = BatchBuffer(dataset.blank_maps, 1).sample(0)
    for place in places:
        dataset.read(place, maps)


def _load(loader: BatchLoader) -> None:
    for _ in loader:
        pass
