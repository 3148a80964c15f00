"""Time every stage of an extraction by itself, per sample, on the same samples."""

import gc
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed.store.sample_rows import new_store
from benchmarks.speed.store.timing import Timing, timed
from cache.encoded_row import EncodedRow
from cache.format.codec import CODECS
from cache.format.row_codec import encode_frame
from cache.format.samples import Samples
from cache.format.schema import BOX_COUNT, row_digest
from cache.writer import StoreWriter
from shared.data.features import FrameFeatures
from shared.process.device import HostCopy
from stage1_extract.backbones.live import LiveFeatures, RawFrame, join_raw
from stage1_extract.extraction.device_pass import DevicePass, round_and_measure
from stage1_extract.nuscenes.records import SampleRecord

LOAD, JOIN = "load", "join"
BACKBONES, MEASURE, COPY = "backbones", "check, float16, statistics", "copy to the host"
ENCODE, DIGEST, WRITE = "codec alone", "digests", "write: encode, digest, files"
WHOLE = "the same with checks and statistics in NumPy"
Stages = dict[str, Timing]


def measure_stages(
    live: LiveFeatures, records: Sequence[SampleRecord], folder: Path, *, batch: int, passes: int
) -> tuple[Stages, list[FrameFeatures]]:
    """Time the stages on the first records; return seconds per sample, and the rows for more."""
    best: Stages = {}
    rows: list[FrameFeatures] = []
    for _ in range(passes):
        rows = _measure_computing(best, live, min(batch, len(records)))
        path = folder / "stages.zarr"
        _measure_writing(best, rows, _new_writer(live, rows, path))
        shutil.rmtree(
            path
        )  # its pages serve the next pass: new ones may cost more than the writing
    return best, rows


def _measure_computing(best: Stages, live: LiveFeatures, count: int) -> list[FrameFeatures]:
    raw: list[RawFrame] = _timed(best, LOAD, count, lambda: [live.raw[0, i] for i in range(count)])
    joined = _timed(best, JOIN, count, lambda: join_raw(raw))
    maps = _timed(best, BACKBONES, count, lambda: _synchronised(lambda: live.maps(joined)))

    def measure() -> list[tuple[torch.Tensor, torch.Tensor]]:
        return [round_and_measure(values) for values in maps.values()]

    with torch.inference_mode():
        pairs = _timed(best, MEASURE, count, lambda: _synchronised(measure))
        _timed(best, COPY, count, lambda: [HostCopy(rounded).wait() for rounded, _ in pairs])
    computed = DevicePass(live)(joined)
    return [computed.row(i) for i in range(count)]


def _measure_writing(best: Stages, rows: list[FrameFeatures], writer: StoreWriter) -> None:
    specs, count = writer.store.arrays, len(rows)
    encoded = [encode_frame(specs, row) for row in rows]
    _timed(
        best,
        ENCODE,
        count,
        lambda: [CODECS[s.codec].encode_row(row[s.name]) for row in encoded for s in specs],
    )
    _timed(
        best,
        DIGEST,
        count,
        lambda: [row_digest(s, row[s.name], int(row[BOX_COUNT])) for row in encoded for s in specs],
    )
    shard = writer.pending()[0]
    assert len(shard.tokens) == count

    def write() -> None:
        finished: list[EncodedRow] = [writer.encode(row) for row in rows]
        writer.write_encoded(shard, finished)

    _timed(best, WRITE, count, write)
    plain = [
        FrameFeatures(
            frame=row.frame,
            maps={name: values.astype("float32") for name, values in row.maps.items()},  # type: ignore[union-attr]
        )
        for row in rows
    ]
    _timed(best, WHOLE, count, lambda: [writer.encode(row) for row in plain])


def _new_writer(live: LiveFeatures, rows: list[FrameFeatures], path: Path) -> StoreWriter:
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
        shard_bytes=len(rows) * 2**30,
    )


def _timed(best: Stages, stage: str, samples: int, work: Callable[[], Any]) -> Any:
    """Run a stage; keep its time per sample if it is the fastest."""
    gc.collect()
    timing = Timing()
    with timed(timing):
        result = work()
    per_sample = Timing(timing.wall_s / samples, timing.cpu_s / samples)
    best.setdefault(stage, Timing()).keep_best(per_sample)
    return result


def _synchronised(work: Callable[[], Any]) -> Any:
    result = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return result
