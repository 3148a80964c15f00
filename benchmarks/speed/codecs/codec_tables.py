"""Summarise the rows of `benchmarks.speed.codecs`: ranges, and the tables of docs/store.md."""

from collections.abc import Iterable, Sequence
from typing import Any

from cache.format.codec import CODECS, DEFAULT_CODEC

SENSORS = ("camera", "lidar")
MEGABYTE, GIGABYTE = 1e6, 1e9
NOT_OFFERED = "not offered"

Row = dict[str, Any]  # a `benchmarks.speed.codecs.Measured`


def ratios(rows: Sequence[Row], codec: str, sensor: str) -> tuple[float, float]:
    """Return the smallest and the largest ratio of float16 bytes to stored bytes."""
    return _range(row["float16_bytes"] / row["bytes"] for row in _of(rows, codec, (sensor,)))


def tables(document: dict[str, Any]) -> tuple[str, str]:
    """Return the two tables as Markdown: of whole samples, and by sensor."""
    rows: list[Row] = document["rows"]
    presets = sorted({row["preset"] for row in rows})
    codecs = list(dict.fromkeys(row["codec"] for row in rows))
    whole = [
        f"| codec | {' | '.join(f'{name}, MB a sample' for name in presets)} | encode, GB/s "
        "| decode, GB/s | error, % of std | |",
        f"|---|{'---|' * len(presets)}---|---|---|---|",
    ]
    for codec in codecs:
        sizes = [_sample_megabytes(rows, codec, preset) for preset in presets]
        note = "" if codec in CODECS else NOT_OFFERED
        note = "default" if codec == DEFAULT_CODEC else note
        whole.append(
            f"| {codec} | {' | '.join(sizes)} | {_measured(rows, codec, SENSORS)} | {note} |"
        )
    by_sensor = ["| codec | sensor | ratio | encode, GB/s | decode, GB/s | error, % of std |"]
    by_sensor.append("|---|---|---|---|---|---|")
    for codec in codecs:
        for sensor in SENSORS:
            ratio = _text(ratios(rows, codec, sensor), 2)
            by_sensor.append(
                f"| {codec} | {sensor} | {ratio} | {_measured(rows, codec, (sensor,))} |"
            )
    return "\n".join(whole), "\n".join(by_sensor)


def _of(rows: Sequence[Row], codec: str, sensors: Sequence[str]) -> list[Row]:
    return [row for row in rows if row["codec"] == codec and row["sensor"] in sensors]


def _range(values: Iterable[float]) -> tuple[float, float]:
    values = list(values)
    return min(values), max(values)


def _text(ends: tuple[float, float], digits: int) -> str:
    low, high = (f"{end:.{digits}f}" for end in ends)
    return low if low == high else f"{low} to {high}"


def _sample_megabytes(rows: Sequence[Row], codec: str, preset: str) -> str:
    """Return the range of a sample's size in MB, both sensors together."""
    sizes: dict[tuple[str, int], float] = {}
    for row in _of(rows, codec, SENSORS):
        if row["preset"] == preset:
            key = row["weights"], row["frame"]
            sizes[key] = sizes.get(key, 0.0) + row["bytes"] / MEGABYTE
    return _text(_range(sizes.values()), 1)


def _measured(rows: Sequence[Row], codec: str, sensors: Sequence[str]) -> str:
    """Return the cells of speeds and error."""
    chosen = _of(rows, codec, sensors)
    timed = [row for row in chosen if row["encode_s"] is not None]
    size = sum(row["float16_bytes"] for row in timed) / GIGABYTE
    speeds = [size / sum(row[f"{way}_s"] for row in timed) for way in ("encode", "decode")]
    errors = _range(100 * error for row in chosen for error in row["error"].values())
    error = _text(errors, 2) if errors[1] else "0"
    return f"{speeds[0]:.2f} | {speeds[1]:.2f} | {error}"
