"""Time whole extractions into new stores, against the limits that the stages set."""

import multiprocessing
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed.extraction.extraction_stages import BACKBONES, JOIN, LOAD, MEASURE, WRITE
from benchmarks.speed.store.sample_rows import new_store, synthetic_samples
from benchmarks.speed.store.timing import Timing, timed
from cache.format.samples import Samples
from shared.process.cores import available_cores
from stage1_extract.backbones.live import LiveFeatures, join_raw
from stage1_extract.extraction.fill_store import fill_store
from stage1_extract.nuscenes.records import SampleRecord

SHARD_ROWS = 2  # several shards even of few samples, so that they overlap
WARM_UP = 1  # batches that load libraries and allocate memory


def renamed_records(records: Sequence[SampleRecord], count: int) -> list[SampleRecord]:
    """Return so many records, the same again under other names."""
    samples = synthetic_samples(count)
    return [
        replace(
            records[i % len(records)],
            token=samples.tokens[i],
            scene=samples.scenes[i],
            timestamp_us=samples.timestamps_us[i],
        )
        for i in range(count)
    ]


def backbones_alone(live: LiveFeatures, count: int, batch: int) -> Timing:
    """Return seconds per sample of the backbones, one batch after the other, with nothing else."""
    raw = join_raw([live.raw[0, i % len(live.raw)] for i in range(batch)])
    for _ in range(WARM_UP):
        live.maps(raw)
    timing, batches = Timing(), max(1, count // batch)
    _synchronise()
    with timed(timing):
        for _ in range(batches):
            live.maps(raw)
        _synchronise()
    return Timing(timing.wall_s / (batches * batch), timing.cpu_s / (batches * batch))


def extraction(
    live: LiveFeatures,
    records: Sequence[SampleRecord],
    folder: Path,
    *,
    batch: int,
    workers: int,
    row_bytes: int,
) -> dict[str, float]:
    """Return seconds per sample of `fill_store`, the start of its processes included."""
    path = folder / f"whole_{workers}.zarr"
    writer = new_store(
        path,
        live.preset,
        Samples(
            tokens=[record.token for record in records],
            scenes=[record.scene for record in records],
            timestamps_us=[record.timestamp_us for record in records],
        ),
        max_boxes=max(1, *(len(record.annotations.labels) for record in records)),
        command="python -m benchmarks.speed.extraction",
        shard_bytes=SHARD_ROWS * row_bytes,
    )
    timing = Timing()
    with timed(timing):
        fill_store(writer, records, live.frozen, batch_size=batch, workers=workers)
    shutil.rmtree(path)
    assert not multiprocessing.active_children()
    count = len(records)
    return {
        "workers": workers,
        "wall_s": timing.wall_s / count,
        "cpu_s": timing.cpu_s / count,  # without its loader processes, which have ended
    }


def limits(stages: dict[str, Timing], alone_s: float, device: str) -> dict[str, Any]:
    """Return the samples per second that each limit allows, and the name of the lowest."""
    cores = available_cores()
    beside = sum(stages[stage].cpu_s for stage in (LOAD, JOIN, WRITE))
    if device == "cpu":  # the cores do everything
        beside += stages[MEASURE].cpu_s + stages[BACKBONES].cpu_s
        allowed = {"all work on the cores": cores / beside}
    else:
        allowed = {"loading and writing on the cores": cores / beside}
    allowed["backbones alone"] = 1 / alone_s
    return {
        "samples_per_s": allowed,
        "limit": min(allowed, key=lambda name: allowed[name]),
        "beside_backbones_cpu_s": sum(
            stages[stage].cpu_s for stage in (LOAD, JOIN, MEASURE, WRITE)
        ),
    }


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
