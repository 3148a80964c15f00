"""How long the thread that queues work for a GPU takes beside what loads and writes for it.

    python -m benchmarks.speed.queueing                  # two minutes on two cores
    python -m benchmarks.speed.queueing --operators 0    # a device that takes no processor time
    python -m benchmarks.speed.queueing --quick          # a rehearsal

Needs no GPU: the "device" here calls as many small operators of torch as a forward of r50_800x320
queues kernels, and returns rows that were computed before. Loader processes load real frames if
there are any, and threads or processes encode and write what the device returns, on the same cores.
Alone means that nothing else runs. Writes benchmarks/results/queueing.json and prints a table.
"""

import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.speed.extraction.benchmark_frames import benchmark_frames
from benchmarks.speed.extraction.end_to_end import empty_store
from benchmarks.speed.extraction.extraction_stages import computed_rows
from benchmarks.speed.gpu.machine import machine
from benchmarks.speed.loaders import table_of
from cache.coordination.claims import Claims
from cache.format.statistics import MeasuredFeatures
from cache.writer import StoreWriter
from shared.config.preset_catalogue import load_preset
from shared.data.features import as_floats
from shared.process.command import command_parser
from shared.process.cores import available_cores
from stage1_extract.backbones.live import LiveFeatures, RawBatch
from stage1_extract.backbones.weights import frozen_backbones
from stage1_extract.extraction.fill_store import compute_batches, planned_batches
from stage1_extract.extraction.stages.raw_loader import RawLoader
from stage1_extract.extraction.stages.row_sink import row_sink
from stage1_extract.extraction.stages.shard_writers import ShardWriters
from stage1_extract.extraction.stages.stage_rates import STAGES, StageRates
from stage1_extract.extraction.stages.stage_widths import choose_widths
from stage1_extract.nuscenes.records import SampleRecord

RESULTS = Path("benchmarks/results/queueing.json")
REAL = Path("../shared/nuscenes_real")
PRESET, QUICK_PRESET = "r50_800x320", "tiny"
SAMPLES, QUICK_SAMPLES, BATCH = 320, 32, 8
OPERATORS = 20_000  # small ones, about 40 ms of a core
FIRST = 3  # batches that do not count


class Device:
    """Stands in for `DevicePass`: queues, and returns rows that were computed before.

    Args:
        row: whose values every row has, in memory of its own, as from a GPU.
        operators: that it queues for a batch.
    """

    def __init__(self, row: MeasuredFeatures | None, operators: int) -> None:
        self._row, self._number, self._operators = row, torch.ones(8), operators
        self.seconds: list[float] = []  # that queueing took

    def __call__(self, batch: RawBatch) -> Any:
        """Compute a batch."""
        self.queue()
        assert self._row is not None
        return _Rows(self._row, batch)

    def queue(self) -> None:
        """Do what takes the thread its time."""
        started = time.perf_counter()
        for _ in range(self._operators):
            self._number.add(1)
        self.seconds.append(time.perf_counter() - started)

    def queueing_ms(self) -> float:
        """Return the milliseconds for a batch, as a median."""
        return 1e3 * median(self.seconds[FIRST:])


class _Rows:
    """Stands in for `ComputedBatch`."""

    def __init__(self, row: MeasuredFeatures, batch: RawBatch) -> None:
        self._raw, self._row, self.samples = batch.rows, row, len(batch.rows)

    def __len__(self) -> int:
        return len(self._raw)

    def row(self, index: int) -> MeasuredFeatures:
        maps = {name: np.array(as_floats(values)) for name, values in self._row.maps.items()}
        raw = self._raw[index]
        return replace(self._row, frame=raw.frame, sources=raw.sources, maps=maps)

    def seconds(self) -> float:
        return 0.0


def beside(
    live: LiveFeatures, records: Sequence[SampleRecord], folder: Path, kind: str, operators: int
) -> dict[str, Any]:
    """Extract all samples with a device that only queues.

    Args:
        live: loads the samples.
        records: all of them.
        folder: for the store.
        kind: "threads" or "processes", which write.
        operators: of a batch.
    """
    loaders = available_cores()
    store = empty_store(folder / "store.zarr", live.preset, records, BATCH, "cuda")
    slots, rates = store.layout.slots, StageRates(dict.fromkeys(STAGES, 1))
    (row,) = computed_rows(live, 0, 1)
    device, written_at = Device(row, operators), list[float]()
    widths = choose_widths(
        loaders if kind == "processes" else 0, loaders, slots=slots, batch_rows=BATCH
    )
    with ExitStack() as stack:
        sink = row_sink(StoreWriter(store.path), widths, stack)
        writers = stack.enter_context(
            ShardWriters(
                sink,
                Claims(store),
                widths,
                rates=rates,
                on_written=lambda _: written_at.append(time.perf_counter()),
            )
        )
        shards = [store.shard(index) for index in store.all_shards]
        loader = RawLoader(
            live,
            planned_batches(shards, BATCH),
            batch_size=BATCH,
            workers=loaders,
            is_padded=True,
            rates=rates,
        )
        with loader:
            compute_batches(device, loader, writers, lambda _: None, writers.check)
    shutil.rmtree(folder / "store.zarr")
    later = written_at[len(written_at) // 2 :]  # before, memory was touched for the first time
    return {
        "writing": kind,
        "queueing_ms": device.queueing_ms(),
        "samples_per_s": (len(later) - 1) * slots / max(later[-1] - later[0], 1e-9),
    }


def main() -> None:
    """Measure, print, write."""
    parser = command_parser(__doc__, "python -m benchmarks.speed.queueing")
    parser.add_argument("--quick", action="store_true", help="preset tiny, few samples")
    parser.add_argument("--operators", type=int, default=OPERATORS, help=f"default {OPERATORS}")
    parser.add_argument("--real", type=Path, default=REAL, help=f"real frames, default {REAL}")
    parser.add_argument("--json", type=Path, default=RESULTS, help=f"default {RESULTS}")
    args = parser.parse_args()
    torch.set_num_threads(1)
    samples = QUICK_SAMPLES if args.quick else SAMPLES
    with tempfile.TemporaryDirectory(prefix="benchmark-queueing-") as name:
        source, records = benchmark_frames(Path(name), args.real, samples)
        frozen, _ = frozen_backbones(load_preset(QUICK_PRESET if args.quick else PRESET), None)
        live = LiveFeatures(records, frozen)
        alone = Device(None, args.operators)
        for _ in range(2 * FIRST + 1):
            alone.queue()
        rows = [{"writing": "alone", "queueing_ms": alone.queueing_ms(), "samples_per_s": 0.0}]
        for kind in ("threads", "processes", "threads", "processes"):
            rows.append(beside(live, records, Path(name), kind, args.operators))
            print(rows[-1], flush=True)
    document = {
        "machine": machine(),
        "frames": source,
        "samples": samples,
        "operators": args.operators,
        "rows": rows,
    }
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(document, indent=1) + "\n")
    print(table_of(rows))


if __name__ == "__main__":
    main()
