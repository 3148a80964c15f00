"""Measure every reader in turn, pass by pass, so that a busy moment affects all alike."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.store.alternatives import ALTERNATIVES, CODEC_ONLY, Alternative, ReadRow
from benchmarks.speed.store.loading import ORDERS, time_codec, time_loader
from benchmarks.speed.store.sample_rows import Rows
from benchmarks.speed.store.timing import Timing, timed

LOADER = "store, stage 2's loader"
WORKERS = (0, 1, 2)
GIGABYTE = 1e9
NOT_INSTALLED = "not installed"

Measured = dict[str, Any]  # one line of a table


def measure_loader(rows: Rows, passes: int) -> list[Measured]:
    """Measure the loader by number of workers, relative to the codec alone on as many cores."""
    cores = sorted({max(1, workers) for workers in WORKERS})
    codec = {count: Timing() for count in cores}
    loader = {(order, workers): Timing() for order in ORDERS for workers in WORKERS}
    for _ in range(passes):
        for count, best in codec.items():
            time_codec(rows, count, best)
        for (order, workers), best in loader.items():
            time_loader(rows, order, workers, best)
    lines = [
        _line(rows, CODEC_ONLY, "", best, best, processes=count) for count, best in codec.items()
    ]
    for (order, workers), best in loader.items():
        line = _line(rows, LOADER, order, best, codec[max(1, workers)], processes=workers)
        lines.append(line)
    return lines


def measure_alternatives(rows: Rows, folder: Path, passes: int) -> list[Measured]:
    """Measure every way to read the rows in one process, relative to the codec alone there."""
    readers = {
        reader: _checked(reader, rows, folder)
        for reader in ALTERNATIVES
        if find_spec(reader.package)
    }
    os.sync()  # otherwise the copies would be written to disk during the first pass
    timings = {(reader.name, order): Timing() for reader in readers for order in ORDERS}
    count = len(rows.positions)
    for number in range(passes):
        orders = {"random": np.random.default_rng(number).permutation(count).tolist()}
        orders["sequence"] = list(range(count))
        for reader, read in readers.items():
            for order, places in orders.items():
                with timed(timings[reader.name, order]):
                    for place in places:
                        read(place)
    lines = []
    for reader in ALTERNATIVES:
        if reader not in readers:
            lines.append({"what": reader.name, "note": NOT_INSTALLED})
            continue
        for order in ORDERS:
            best, codec = timings[reader.name, order], timings[CODEC_ONLY, order]
            lines.append(_line(rows, reader.name, order, best, codec, processes=0))
    return lines


def _checked(reader: Alternative, rows: Rows, folder: Path) -> ReadRow:
    """Return a reader's function, after checking that it returns the maps of the last row."""
    here = folder / reader.package
    here.mkdir(exist_ok=True)
    read = reader.prepare(rows, here)
    last = len(rows.positions) - 1
    if not reader.is_raw:
        expected = rows.features[last].maps.values()
        for values, expected_values in zip(read(last), expected, strict=True):
            assert np.array_equal(np.asarray(values), expected_values), reader.name
    return read


def _line(
    rows: Rows, what: str, order: str, best: Timing, codec: Timing, *, processes: int
) -> Measured:
    return {
        "what": what,
        "order": order,
        "workers": processes,
        "gb_s": rows.map_bytes / best.wall_s / GIGABYTE,
        "gb_per_cpu_s": rows.map_bytes / best.cpu_s / GIGABYTE,
        "share": codec.wall_s / best.wall_s,
        "cpu_share": codec.cpu_s / best.cpu_s,
    }
