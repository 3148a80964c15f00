"""Opening a store of the whole train and val split in eight variants, made without its rows.

Ledger entries are written by the ledger itself, from a real one: listing and sizes are real.
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
SIZES = (28, 28_130)  # samples; nuScenes train and val have 28,130 of them
OPENINGS = 5
MEGABYTE, KILOBYTE = 1e6, 1024


def measure_opening(rows: Rows, folder: Path) -> list[Measured]:
    """Open a small and a large store, each several times in a new process."""
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
                **{name: min(one[name] for one in openings) for name in openings[0]},
            }
        )
    return lines


def _fill_ledger(rows: Rows, path: Path, samples: int) -> int:
    """Create a store and an entry for each of its shards; return how many."""
    metadata = rows.store.metadata
    listed = synthetic_samples(samples)
    store = new_store(
        path, metadata.preset, listed, cut=parse_cut(metadata.identity["cut"]), variants=VARIANTS
    ).store
    real = rows.store.ledger.read(min(rows.store.ledger.complete()))
    with mock.patch.object(os, "fsync"):  # minutes, and nothing that is read again depends on it
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
    found: Measured = results.get()
    child.join()
    return found


def _open(path: Path, results: "Queue[Measured]") -> None:
    """Report the time and the memory that opening and looking through the ledger take."""
    before = _memory_bytes("VmRSS")
    started = time.perf_counter()
    source = CachedFeatures(path)
    opened = time.perf_counter()
    assert source.is_complete()
    ended = time.perf_counter()
    found = {
        "open_s": opened - started,
        "is_complete_s": ended - opened,
        "memory_mb": (_memory_bytes("VmRSS") - before) / MEGABYTE,
        "peak_memory_mb": (_memory_bytes("VmHWM") - before) / MEGABYTE,
    }
    results.put(found)


def _memory_bytes(field: str) -> int:
    """Return a field of /proc/self/status: resident memory now (VmRSS) or at its peak (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (one for one in lines if one.startswith(f"{field}:"))
    return int(line.split()[1]) * KILOBYTE
