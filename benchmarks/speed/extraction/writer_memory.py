"""The memory of the writing side: how far its peak is above what it started with.

    python -m benchmarks.speed.extraction.writer_memory FOLDER THREADS ROWS

Runs in a process of its own, because a peak cannot be taken back. The rows are made as fast as
possible, so that memory is as full as it can get; every row has memory of its own, as from a GPU.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.speed.store.sample_rows import new_store, synthetic_features, synthetic_samples
from cache.coordination.claims import Claims
from cache.format.schema import row_bytes
from cache.format.statistics import MapMeasure, MeasuredFeatures, Statistics
from shared.config.preset_catalogue import r50_800x320
from shared.data.features import FrameFeatures, as_floats
from stage1_extract.extraction.stages.shard_writers import EncodingThreads, ShardWriters
from stage1_extract.extraction.stages.stage_rates import STAGES, StageRates
from stage1_extract.extraction.stages.stage_widths import rows_in_memory


class CopiedRow:
    """A batch of one row, in memory of its own.

    Args:
        row: to copy.
    """

    samples = 1

    def __init__(self, row: MeasuredFeatures) -> None:
        maps = {name: np.array(values) for name, values in row.maps.items()}
        self._row = replace(row, maps=maps)

    def __len__(self) -> int:
        return 1

    def row(self, index: int) -> MeasuredFeatures:
        """Return the row."""
        return self._row

    def seconds(self) -> float:
        """Return 0: nothing was computed."""
        return 0.0


def measured(row: FrameFeatures) -> MeasuredFeatures:
    """Return a row as a device hands it over."""
    maps = {name: as_floats(values).astype(np.float16) for name, values in row.maps.items()}
    measures = {}
    for name, values in maps.items():
        statistics = Statistics.of(values)
        measures[name] = MapMeasure(low=statistics.min, high=statistics.max, statistics=statistics)
    return MeasuredFeatures(frame=row.frame, maps=maps, measures=measures)


def memory_bytes(field: str) -> int:
    """Return what /proc/self/status says, e.g. of VmHWM, the peak."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) * 1024


def main(argv: Sequence[str]) -> None:
    """Write the rows; print the memory in bytes, and its bound, as JSON."""
    folder, threads, count = Path(argv[0]), int(argv[1]), int(argv[2])
    samples = synthetic_samples(count)
    writer = new_store(folder / f"memory_{threads}.zarr", r50_800x320(), samples)
    slots, bytes_per_row = writer.store.layout.slots, row_bytes(writer.store.arrays)
    bound = rows_in_memory(slots, threads, 1)
    template = measured(synthetic_features(samples, 0))
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    before = memory_bytes("VmRSS")
    with ShardWriters(
        EncodingThreads(writer),
        Claims(writer.store),
        threads=threads,
        rows_in_memory=bound,
        rates=StageRates(dict.fromkeys(STAGES, 1)),
    ) as writers:
        for shard in writer.pending():
            for position in range(shard.start, shard.start + len(shard.tokens)):
                numbers = writers.reserve(1, meanwhile=writers.check)
                frame = replace(
                    template.frame,
                    token=samples.tokens[position],
                    scene=samples.scenes[position],
                    timestamp_us=samples.timestamps_us[position],
                )
                writers.submit(shard, CopiedRow(replace(template, frame=frame)), numbers)
    peak = memory_bytes("VmHWM")
    print(
        json.dumps(
            {
                "threads": threads,
                "rows": count,
                "rows_in_memory": bound,
                "bound_mb": (bound + 2 * threads) * bytes_per_row / 1e6,
                "peak_mb": (peak - before) / 1e6,
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1:])
