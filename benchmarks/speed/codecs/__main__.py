"""Measure how small and how fast every codec is on features of real frames.

    python -m benchmarks.speed.codecs ../shared/nuscenes_real
    python -m benchmarks.speed.codecs --store train.zarr --json mine.json    # only your stores

Writes benchmarks/results/codecs.json and prints its tables, which docs/store.md contains. One core;
the fastest of several passes counts. Speeds count float16 bytes, whatever the number format on
disk. Both presets, each with two kinds of untrained weights (see `codec_features`), because no
trained weights of them were available.
"""

import json
import time
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numcodecs.blosc import Blosc
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

from benchmarks.speed.codecs.codec_features import (
    FrameMaps,
    Frames,
    live_frames,
    real_records,
    stored_frames,
)
from benchmarks.speed.codecs.codec_tables import SENSORS, tables
from cache.format.codec import CODECS, UINT8, Codec
from cache.format.quantise import quantise
from shared.config.preset_catalogue import r50_800x320, vov_1600x640
from shared.data.features import QuantisedMap
from shared.process.command import command_parser

RESULTS = Path("benchmarks/results/codecs.json")
PRESETS = (r50_800x320(), vov_1600x640())
PASSES = 7
LIBRARIES = ("numpy", "numcodecs", "pcodec", "zarr")

Origin = tuple[str, str]  # preset and weights


def _blosc(name: str, compressor: str, level: int, shuffle: int) -> Codec:
    """Return a Blosc codec; every Blosc codec decodes what any other encoded."""
    packer = Blosc(cname=compressor, clevel=level, shuffle=shuffle)
    return replace(CODECS["lz4-bitshuffle"], name=name, pack=packer.encode)


# Measured and rejected: no store can have these.
ALL_VIEWS = replace(CODECS["uint8-zstd-1"], name="uint8-zstd-1, views together")
REJECTED = (
    replace(CODECS["zstd-1"], name="zstd-3", pack=Zstd(level=3).encode),
    _blosc("lz4-shuffle", "lz4", 5, Blosc.SHUFFLE),
    _blosc("zstd-1-shuffle, small blocks", "zstd", 1, Blosc.SHUFFLE),
    _blosc("zstd-1-bitshuffle", "zstd", 1, Blosc.BITSHUFFLE),
    ALL_VIEWS,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """One codec on one sensor's maps of one frame.

    Args:
        preset: whose maps.
        weights: kind of weights, see `codec_features`, or those of the store.
        frame: number of the frame.
        codec, sensor: which.
        float16_bytes, bytes: before and after, scales and zero points included.
        encode_s, decode_s: fastest pass; quantising is part of encoding, dequantising (on the
            device) is no part of decoding. None on frames that were not timed.
        error: of each map, its root mean square error over its standard deviation.
    """

    preset: str
    weights: str
    frame: int
    codec: str
    sensor: str
    float16_bytes: int
    bytes: int
    encode_s: float | None
    decode_s: float | None
    error: dict[str, float]


def quantise_views_together(values: NDArray[np.float16]) -> QuantisedMap:
    """Quantise with one scale per channel for all views."""
    if values.ndim == 3:
        return quantise(values)
    views, channels, height, width = values.shape
    by_channel = values.transpose(1, 0, 2, 3).reshape(channels, views * height, width)
    merged = quantise(np.ascontiguousarray(by_channel))
    levels = merged.values.reshape(channels, views, height, width).transpose(1, 0, 2, 3)
    return QuantisedMap(values=np.ascontiguousarray(levels), scale=merged.scale, zero=merged.zero)


def encoded(codec: Codec, values: NDArray[np.float16]) -> list[tuple[bytes, NDArray[Any]]]:
    """Return the encoded rows of a map, each with its array; the map itself comes first."""
    if codec.value_format != UINT8:
        return [(codec.encode_row(values), values)]
    quantised = quantise_views_together(values) if codec is ALL_VIEWS else quantise(values)
    scales = (quantised.scale, quantised.zero)
    small = [(CODECS["zstd-1"].encode_row(array), array) for array in scales]
    return [(codec.encode_row(quantised.values), quantised.values), *small]


def error_of(values: NDArray[np.float16], rows: list[tuple[bytes, NDArray[Any]]]) -> float:
    """Return the error of an encoded map, over its standard deviation."""
    if len(rows) == 1:
        return 0.0
    exact = values.astype(np.float64)
    (_, levels), (_, scale), (_, zero) = rows
    expanded = zero[..., None, None] + scale[..., None, None] * levels
    return float(np.sqrt(np.square(expanded - exact).mean()) / exact.std())


def measure(maps: FrameMaps, codec: Codec) -> tuple[int, dict[str, float]]:
    """Return the stored size of some maps in bytes, and the error of each."""
    size, error = 0, {}
    for name, values in maps.items():
        rows = encoded(codec, values)
        row, stored = rows[0]
        assert np.array_equal(codec.decode_row(row, stored.shape, stored.dtype.name), stored)
        size += sum(len(row) for row, _ in rows)
        error[name] = error_of(values, rows)
    return size, error


def seconds(maps: FrameMaps, codec: Codec) -> tuple[float, float]:
    """Return how many seconds it takes to encode and to decode some maps once."""
    encode_s = decode_s = 0.0
    for values in maps.values():
        started = time.perf_counter()
        rows = encoded(codec, values)
        encode_s += time.perf_counter() - started
        row, stored = rows[0]
        started = time.perf_counter()
        codec.decode_row(row, stored.shape, stored.dtype.name)
        decode_s += time.perf_counter() - started
    return encode_s, decode_s


def measure_all(origin: Origin, frames: Frames) -> list[Measured]:
    """Measure every codec on every frame; time them on the first.

    A pass is one round through all codecs, so that a busy moment of the machine affects all alike.
    """
    codecs = (*CODECS.values(), *REJECTED)
    best: dict[tuple[str, str], tuple[float, float]] = {}
    for _ in range(PASSES):
        for codec in codecs:
            for sensor, maps in by_sensor(frames[0]).items():
                now = seconds(maps, codec)
                before = best.get((codec.name, sensor), now)
                best[codec.name, sensor] = min(now[0], before[0]), min(now[1], before[1])
    rows = []
    for number, frame in enumerate(frames):
        for codec in codecs:
            for sensor, maps in by_sensor(frame).items():
                size, error = measure(maps, codec)
                encode_s, decode_s = (None, None) if number else best[codec.name, sensor]
                rows.append(
                    Measured(
                        preset=origin[0],
                        weights=origin[1],
                        frame=number,
                        codec=codec.name,
                        sensor=sensor,
                        float16_bytes=sum(values.nbytes for values in maps.values()),
                        bytes=size,
                        encode_s=encode_s,
                        decode_s=decode_s,
                        error=error,
                    )
                )
    return rows


def by_sensor(frame: FrameMaps) -> dict[str, FrameMaps]:
    """Split a frame's maps; a sensor that has none is left out."""
    split = {
        sensor: {name: values for name, values in frame.items() if name.startswith(sensor)}
        for sensor in SENSORS
    }
    return {sensor: maps for sensor, maps in split.items() if maps}


def _rows_of_presets(root: Path, frames: int) -> list[Measured]:
    records = real_records(root.absolute(), frames)
    return [
        row
        for preset in PRESETS
        for weights, features in live_frames(preset, records)
        for row in measure_all((preset.name, weights), features)
    ]


def main(argv: list[str] | None = None) -> None:
    """Measure, write the JSON and print its tables."""
    parser = command_parser(__doc__, "python -m benchmarks.speed.codecs")
    parser.add_argument("root", type=Path, nargs="?", help="folder of real frames, nuscenes_real")
    parser.add_argument(
        "--store", type=Path, action="append", default=[], help="measure this store as well"
    )
    parser.add_argument("--frames", type=int, default=2, help="frames to measure (default 2)")
    parser.add_argument("--json", type=Path, default=RESULTS, help=f"default {RESULTS}")
    arguments = parser.parse_args(argv)
    if arguments.root is None and (not arguments.store or arguments.json == RESULTS):
        parser.error("name the folder of real frames, or stores and a --json of your own")
    rows = [] if arguments.root is None else _rows_of_presets(arguments.root, arguments.frames)
    for path in arguments.store:
        rows += measure_all(*stored_frames(path, arguments.frames))
    document = {
        "versions": {name: version(name) for name in LIBRARIES},
        "rows": [asdict(row) for row in rows],
    }
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    print(*tables(document), sep="\n\n")


if __name__ == "__main__":
    main()
