"""Time every stage of an extraction by itself, per sample, on the same samples."""

import gc
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed.store.sample_rows import new_store
from benchmarks.speed.store.timing import Timing, timed
from cache.format.codec import CODECS
from cache.format.layout import SHARD_BYTES, slots_per_shard
from cache.format.row_codec import encode_frame
from cache.format.samples import Samples
from cache.format.schema import BOX_COUNT, array_specs, row_digest
from cache.format.statistics import MeasuredFeatures
from cache.writer import StoreWriter
from shared.data.features import FrameFeatures, as_floats
from shared.process.device import HostCopy
from stage1_extract.backbones.live import LiveFeatures, join_raw
from stage1_extract.extraction.stages.device_pass import DevicePass, round_and_measure
from stage1_extract.extraction.stages.loader_processes import keep_to_one_core
from stage1_extract.extraction.stages.row_memory import RowMemory
from stage1_extract.preprocessing.raw_frames import RawFrame

LOAD, JOIN = "load", "join"
BACKBONES, MEASURE, COPY = "backbones", "check, float16, statistics", "copy to the host"
PLACE = "copy to a process that writes"
ENCODE, DIGEST, FILES = "codec alone", "digests alone", "files"
WRITE = "write: encode, digest, files"
WHOLE = "the same with checks and statistics in NumPy, without files"
# Passes over writing for each over computing: it takes a second, and its time varies with what the
# page cache has free, where new pages can cost several times as much as reused ones.
WRITING_PASSES = 4
Stages = dict[str, Timing]


def measure_stages(
    live: LiveFeatures, folder: Path, *, batch: int, passes: int, row_bytes: int
) -> Stages:
    """Time the stages; return seconds per sample.

    Args:
        live: with the samples. Loading and computing are timed on the first batch, writing on as
            many rows as an extraction would put in a shard, or all there are.
        folder: for stores.
        batch: samples per forward.
        passes: over every stage; one more before them, in which libraries are loaded, does not
            count.
        row_bytes: of a row, uncompressed.
    """
    best: Stages = {}
    batch = min(batch, len(live.raw))
    count = slots_per_shard(row_bytes, len(live.raw), SHARD_BYTES, batch)
    _measure_computing({}, live, batch)
    for _ in range(passes):
        _measure_computing(best, live, batch)
    starts = range(0, count, batch)
    rows = [
        row for start in starts for row in computed_rows(live, start, min(batch, count - start))
    ]
    memory = RowMemory(array_specs(live.preset, 1), 1)
    for _ in range(WRITING_PASSES * passes):
        path = folder / "stages.zarr"
        _timed(best, PLACE, 1, lambda: memory.put(0, rows[0].maps))
        _measure_writing(best, rows, _new_writer(live, rows, path))
        shutil.rmtree(path)  # the next pass reuses its pages in the page cache
    memory.close_file()
    return best


def _measure_computing(best: Stages, live: LiveFeatures, count: int) -> None:
    if live.frozen.device.type == "cuda":
        keep_to_one_core()  # as the processes that load
    raw: list[RawFrame] = _timed(best, LOAD, count, lambda: [live.raw[0, i] for i in range(count)])
    is_pinned = live.frozen.device.type == "cuda"
    joined = _timed(best, JOIN, count, lambda: join_raw(raw, is_pinned=is_pinned))
    maps = _timed(best, BACKBONES, count, lambda: _synchronised(lambda: live.maps(joined)))

    def measure() -> list[tuple[torch.Tensor, torch.Tensor]]:
        return [round_and_measure(values) for values in maps.values()]

    with torch.inference_mode():
        pairs = _timed(best, MEASURE, count, lambda: _synchronised(measure))
        _timed(best, COPY, count, lambda: [HostCopy(rounded).wait() for rounded, _ in pairs])


def computed_rows(live: LiveFeatures, start: int, count: int) -> list[MeasuredFeatures]:
    """Compute rows as an extraction does."""
    computed = DevicePass(live)(join_raw([live.raw[0, start + i] for i in range(count)]))
    return [computed.row(i) for i in range(count)]


def _measure_writing(best: Stages, rows: Sequence[MeasuredFeatures], writer: StoreWriter) -> None:
    specs, algorithm = writer.store.arrays, writer.store.metadata.digest_algorithm
    encoded = [encode_frame(specs, row) for row in rows]
    (shard,) = writer.pending()

    def codec() -> None:
        for row in encoded:
            for spec in specs:
                CODECS[spec.codec].seal_row(row[spec.name])  # its memory serves the next at once

    def digests() -> None:
        for row in encoded:
            for spec in specs:
                row_digest(spec, row[spec.name], int(row[BOX_COUNT]), algorithm)

    def write() -> None:
        finished = [writer.encode(row) for row in rows]
        with timed(files):
            writer.write_encoded(shard, finished)

    _timed(best, ENCODE, len(rows), codec)
    _timed(best, DIGEST, len(rows), digests)
    files = Timing()
    _timed(best, WRITE, len(rows), write)
    _keep(best, FILES, files, len(rows))
    floats = {name: as_floats(values) for name, values in rows[0].maps.items()}
    plain = FrameFeatures(frame=rows[0].frame, maps=floats)
    _timed(best, WHOLE, 1, lambda: writer.encode(plain))


def _new_writer(live: LiveFeatures, rows: Sequence[FrameFeatures], path: Path) -> StoreWriter:
    """Create a store of one shard for these rows, under their own names."""
    return new_store(
        path,
        live.preset,
        Samples(
            tokens=[row.frame.token for row in rows],
            scenes=[row.frame.scene for row in rows],
            timestamps_us=[row.frame.timestamp_us for row in rows],
        ),
        max_boxes=max(1, *(len(row.frame.annotations.labels) for row in rows)),
        command="python -m benchmarks.speed.extraction",
    )


def _timed(best: Stages, stage: str, samples: int, work: Callable[[], Any]) -> Any:
    """Run a stage; keep its time per sample if it is the fastest."""
    gc.collect()
    timing = Timing()
    with timed(timing):
        result = work()
    _keep(best, stage, timing, samples)
    return result


def _keep(best: Stages, stage: str, timing: Timing, samples: int) -> None:
    per_sample = Timing(timing.wall_s / samples, timing.cpu_s / samples)
    best.setdefault(stage, Timing()).keep_best(per_sample)


def _synchronised(work: Callable[[], Any]) -> Any:
    result = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return result
