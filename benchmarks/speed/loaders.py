"""What loading costs a training step: threads of the same process, and a process of their own.

    python -m benchmarks.speed.loaders              # on a GPU also training steps; 2 minutes there
    python -m benchmarks.speed.loaders --quick      # a rehearsal

Waits: the main thread calls small operators of torch, as a thread does that queues work for a GPU;
it has a core of its own. A loader that it shares Python's lock with makes it wait. The system
counts how often a thread gives its core away because it waits ("voluntary" context switches):
without a loader, never. The counts hold on busy cores too, the wall times do not.

Steps, on a GPU: of r50_800x320, batch 16, with batches from the loader and from memory, by the
probe of `benchmarks.speed.gpu`; they come first. Writes benchmarks/results/loaders.json after every
case, and prints both tables.
"""

import json
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.markdown import table
from benchmarks.speed.gpu.cases import NOT_MEASURED, attempted
from benchmarks.speed.gpu.machine import machine
from benchmarks.speed.gpu.step_probe import StepProbe, Stretches
from benchmarks.speed.gpu.synthetic_store import write_synthetic_store
from benchmarks.speed.gpu.training_case import run_training, short_recipe, store_detector
from cache.reader import CachedFeatures
from shared.config.preset_catalogue import load_preset
from shared.data.batch import Batch
from shared.process.command import command_parser
from shared.process.device import available_device
from stage2_train.data.dataset import StoreDataset
from stage2_train.data.loader import BatchLoader
from stage2_train.data.loading_options import LOADERS
from stage2_train.data.sampler import Place

RESULTS, QUICK_RESULTS = Path("benchmarks/results/loaders.json"), Path("runs/loaders_quick.json")
PRESET, QUICK_PRESET = "r50_800x320", "tiny"
SAMPLES, BATCH, QUICK_BATCH = 40, 16, 2
NUMBERS = (8, 4)  # of threads; the default first
CASES = (("none", 0), *((loader, workers) for workers in NUMBERS for loader in LOADERS))
WORK_CPU_S = 0.1  # of the main thread, for each batch: about what a step on an H200 takes
WORK_UNIT = 2  # steps of the small model
STEPS = Stretches(warm_up=6, measured=16, profiled=0)
QUICK_STEPS = Stretches(warm_up=1, measured=1, profiled=0)

Row = dict[str, Any]


def measure_waits(store: CachedFeatures, loader: str, workers: int, batch: int, count: int) -> Row:
    """Count the waits of a thread that calls operators while batches are loaded.

    Args:
        store: to load from.
        loader: one of `LOADERS`, or "none".
        workers: its threads.
        batch: samples.
        count: of batches.
    """
    work = small_operators()
    batches = cycle([None]) if loader == "none" else loaded(store, loader, workers, batch)
    wall_s, cpu_s, waits = 0.0, 0.0, 0
    own, *others = cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, others or cores)  # where the loader stays
    for number in range(count + 1):
        next(batches)
        os.sched_setaffinity(0, {own})
        started, cpu, before = time.perf_counter(), time.thread_time(), _waits()
        while time.thread_time() - cpu < WORK_CPU_S:
            work()
        if number:  # the first one warms up
            wall_s += time.perf_counter() - started
            cpu_s += time.thread_time() - cpu
            waits += _waits() - before
    os.sched_setaffinity(0, cores)
    return {"waits_per_100_ms": waits / cpu_s / 10, "wall_per_cpu": wall_s / cpu_s}


def small_operators() -> Callable[[], None]:
    """Return a function that takes training steps of a model too small to compute anything."""
    layer = nn.TransformerDecoderLayer(16, 4, 32, batch_first=True)
    model = nn.TransformerDecoder(layer, 6).train()
    optimizer = torch.optim.AdamW(model.parameters(), foreach=True)
    queries, memory = torch.randn(2, 6, 16), torch.randn(2, 8, 16)

    def work() -> None:
        for _ in range(WORK_UNIT):
            model(queries, memory).sum().backward()
            optimizer.step()
            optimizer.zero_grad()

    return work


def loaded(store: CachedFeatures, loader: str, workers: int, batch: int) -> Iterator[Batch]:
    """Return endless batches of a store in its order."""
    numbers = cycle(range(len(store.tokens)))
    places = iter(lambda: [Place(0, number) for number in islice(numbers, batch)], None)
    return iter(BatchLoader(StoreDataset(store, store.tokens), places, workers, loader))


def _waits() -> int:
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


def measure_steps(
    store: CachedFeatures, out: Path, recipe_name: str, loader: str, workers: int, is_quick: bool
) -> Row:
    """Time training steps from the loader and from memory.

    Args:
        store: to train from.
        out: run folder; there must be nothing.
        recipe_name: of the recipe.
        loader: one of `LOADERS`.
        workers: its threads.
        is_quick: whether this is a rehearsal.
    """
    recipe = short_recipe(recipe_name, QUICK_BATCH if is_quick else BATCH, "auto")
    dataset = StoreDataset(store, store.tokens)
    probe = StepProbe(QUICK_STEPS if is_quick else STEPS)
    row = run_training(
        store,
        store_detector(store, recipe),
        recipe,
        out,
        probe,
        lambda places: BatchLoader(dataset, places, workers, loader),
    )
    names = ("step_s", "step_from_loader_s", "blocked_in_loader_s")
    return {name: row[name] for name in names}


def table_of(rows: list[Row]) -> str:
    """Return rows of the same fields as Markdown."""
    cells = (
        [f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()]
        for row in rows
    )
    return table(list(rows[0]), cells)


def main() -> None:
    """Measure, print, write."""
    parser = command_parser(__doc__, "python -m benchmarks.speed.loaders")
    parser.add_argument("--quick", action="store_true", help="preset tiny, few steps")
    parser.add_argument("--batches", type=int, default=20, help="for every count of waits")
    parser.add_argument("--recipes", nargs="+", default=["cmt", "frozen_a"])
    parser.add_argument("--json", type=Path, help=f"default {RESULTS}; {QUICK_RESULTS} if --quick")
    args = parser.parse_args()
    args.json = args.json or (QUICK_RESULTS if args.quick else RESULTS)
    batch, count = (QUICK_BATCH, 2) if args.quick else (BATCH, args.batches)
    waits: list[Row] = []
    steps: list[Row] = []
    document = {"machine": machine(), "batch": batch, "waits": waits, "steps": steps}

    def add(rows: list[Row], about: Row, measure: Callable[[], Row]) -> None:
        """Measure a case, and write down at once what came of it."""
        about |= attempted(measure)
        print(about, flush=True)
        rows.append(about)
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(document, indent=1) + "\n")

    with tempfile.TemporaryDirectory(prefix="benchmark-loaders-") as name:
        preset = load_preset(QUICK_PRESET if args.quick else PRESET)
        store = write_synthetic_store(Path(name) / "store.zarr", preset, SAMPLES)
        if args.quick or available_device().type == "cuda":  # first: they are what matters there
            for recipe in args.recipes:
                for loader, workers in CASES[1:]:
                    out = Path(name) / f"{recipe}_{loader}_{workers}"
                    about: Row = {"recipe": recipe, "loader": loader, "threads": workers}
                    step = partial(measure_steps, store, out, recipe, loader, workers, args.quick)
                    add(steps, about, step)
        for loader, workers in CASES:
            about = {"loader": loader, "threads": workers}
            add(waits, about, partial(measure_waits, store, loader, workers, batch, count))
    for rows in (steps, waits):
        measured = [row for row in rows if NOT_MEASURED not in row]
        if measured:
            print(table_of(measured), end="\n\n")


if __name__ == "__main__":
    main()
