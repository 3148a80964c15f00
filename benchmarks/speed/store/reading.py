"""The passes over everything that reads, in turn, so that a busy moment hits all alike."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.store.alternatives import ALTERNATIVES, CODEC_ALONE, Alternative, ReadRow
from benchmarks.speed.store.loading import ORDERS, time_codec, time_loader
from benchmarks.speed.store.sample_rows import Rows
from benchmarks.speed.store.timing import Timing, timed

LOADER = "store, stage 2's loader"
WORKERS = (0, 1, 2)
GIGABYTE = 1e9
NOT_INSTALLED = "not installed"

Measured = dict[str, Any]  # one line of a table


def measure_loader(rows: Rows, passes: int) -> list[Measured]:
    """Measure the loader by workers, as a share of the codec alone on as many cores."""
    cores = sorted({max(1, workers) for workers in WORKERS})
    alone = {count: Timing() for count in cores}
    loader = {(order, workers): Timing() for order in ORDERS for workers in WORKERS}
    for _ in range(passes):
        for count, best in alone.items():
            time_codec(rows, count, best)
        for (order, workers), best in loader.items():
            time_loader(rows, order, workers, best)
    lines = [
        _line(rows, CODEC_ALONE, "", best, best, processes=count) for count, best in alone.items()
    ]
    for (order, workers), best in loader.items():
        line = _line(rows, LOADER, order, best, alone[max(1, workers)], processes=workers)
        lines.append(line)
    return lines


def measure_alternatives(rows: Rows, folder: Path, passes: int) -> list[Measured]:
    """Measure every way to read the rows in one process, as a share of the codec alone there."""
    readers = {one: _checked(one, rows, folder) for one in ALTERNATIVES if find_spec(one.package)}
    os.sync()  # or the copies would be written to disk while the first pass runs
    timings = {(one.name, order): Timing() for one in readers for order in ORDERS}
    count = len(rows.positions)
    for number in range(passes):
        orders = {"random": np.random.default_rng(number).permutation(count).tolist()}
        orders["sequence"] = list(range(count))
        for one, read in readers.items():
            for order, places in orders.items():
                with timed(timings[one.name, order]):
                    for place in places:
                        read(place)
    lines = []
    for one in ALTERNATIVES:
        if one not in readers:
            lines.append({"what": one.name, "note": NOT_INSTALLED})
            continue
        for order in ORDERS:
            alone = timings[CODEC_ALONE, order]
            lines.append(_line(rows, one.name, order, timings[one.name, order], alone, processes=0))
    return lines


def _checked(one: Alternative, rows: Rows, folder: Path) -> ReadRow:
    """Return what reads a row, after making sure that it gives the maps of the last one."""
    here = folder / one.package
    here.mkdir(exist_ok=True)
    read = one.prepare(rows, here)
    last = len(rows.positions) - 1
    if not one.is_raw:
        expected = rows.features[last].maps.values()
        for found, values in zip(read(last), expected, strict=True):
            assert np.array_equal(np.asarray(found), values), one.name
    return read


def _line(
    rows: Rows, what: str, order: str, best: Timing, alone: Timing, *, processes: int
) -> Measured:
    return {
        "what": what,
        "order": order,
        "workers": processes,
        "gb_s": rows.map_bytes / best.wall_s / GIGABYTE,
        "gb_per_cpu_s": rows.map_bytes / best.cpu_s / GIGABYTE,
        "share": alone.wall_s / best.wall_s,
        "cpu_share": alone.cpu_s / best.cpu_s,
    }
