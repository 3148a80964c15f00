"""Time opening a store of the train split in eight variants, built without its rows.

The ledger itself writes the entries, as copies of a real entry: their listing and sizes are real.
"""

import multiprocessing
import os
import time
from dataclasses import replace
from pathlib import Path
from queue import Queue
from unittest import mock

from benchmarks.speed.store.reading import Measured
from benchmarks.speed.store.sample_rows import Rows, new_store, synthetic_samples
from cache.reader import CachedFeatures
from shared.config.cut import parse_cut

VARIANTS = 8
SIZES = (28, 28_130)  # samples; the nuScenes train split has 28,130
OPENINGS = 5
MEGABYTE, KILOBYTE = 1e6, 1024


def measure_opening(rows: Rows, folder: Path) -> list[Measured]:
    """Open a small and a large store, several times each, in new processes."""
    lines = []
    for samples in SIZES:
        path = folder / f"{samples}_samples.zarr"
        shards = _fill_ledger(rows, path, samples)
        openings = [_opened(path) for _ in range(OPENINGS)]
        lines.append(
            {
                "samples": samples,
                "variants": VARIANTS,
                "shards": shards,
                **{name: min(opening[name] for opening in openings) for name in openings[0]},
            }
        )
    return lines


def _fill_ledger(rows: Rows, path: Path, samples: int) -> int:
    """Create a store with an entry for each of its shards; return the number of shards."""
    metadata = rows.store.metadata
    listed = synthetic_samples(samples)
    store = new_store(
        path, metadata.preset, listed, cut=parse_cut(metadata.identity["cut"]), variants=VARIANTS
    ).store
    real = rows.store.ledger.read(min(rows.store.ledger.complete()))
    with mock.patch.object(os, "fsync"):  # would take minutes, and nothing read here depends on it
        for index in store.all_shards:
            shard = store.shard(index)
            entry = replace(real, shard=index, variant=shard.variant, tokens=shard.tokens)
            store.ledger.write(entry)
    return store.layout.shard_count


def _opened(path: Path) -> Measured:
    """Open a store in a new process."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    child = context.Process(target=_open, args=(path, results))
    child.start()
    measured: Measured = results.get()
    child.join()
    return measured


def _open(path: Path, results: "Queue[Measured]") -> None:
    """Report the time and the memory it takes to open a store and to check its ledger."""
    before = memory_bytes("VmRSS")
    started = time.perf_counter()
    source = CachedFeatures(path)
    opened = time.perf_counter()
    assert source.is_complete()
    ended = time.perf_counter()
    measured = {
        "open_s": opened - started,
        "is_complete_s": ended - opened,
        "memory_mb": (memory_bytes("VmRSS") - before) / MEGABYTE,
        "peak_memory_mb": (memory_bytes("VmHWM") - before) / MEGABYTE,
    }
    results.put(measured)


def memory_bytes(field: str) -> int:
    """Return a field of /proc/self/status: resident memory now (VmRSS) or at its peak (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{field}:"))
    return int(line.split()[1]) * KILOBYTE
