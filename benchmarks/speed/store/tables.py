"""The tables of `benchmarks.speed.store`, as Markdown."""

from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.markdown import table

Document = dict[str, Any]


def tables(document: Document) -> list[str]:
    """Return the five tables."""
    speeds = ("GB/s", "GB per CPU s", "share", "share by CPU")
    read = ("order", *speeds)
    return [
        table(("loader", "workers", *read), _loader_cells(document["loader"])),
        table(
            ("step of the loader", "s per GB", "CPU s per GB", "of the codec's"),
            _step_cells(document["steps"]),
        ),
        table(("one process", *read), _alternative_cells(document["alternatives"])),
        table(("writing", *speeds[:3], "of the time"), _writing_cells(document["writing"])),
        table(
            (
                "samples",
                "variants",
                "shards",
                "open, s",
                "is_complete, s",
                "memory, MB",
                "peak, MB",
            ),
            _opening_cells(document["opening"]),
        ),
    ]


def _speeds(line: Document) -> list[str]:
    return [f"{line[field]:.2f}" for field in ("gb_s", "gb_per_cpu_s", "share", "cpu_share")]


def _loader_cells(lines: Sequence[Document]) -> Iterable[list[str]]:
    for line in lines:
        yield [line["what"], str(line["workers"]), line["order"], *_speeds(line)]


def _step_cells(lines: Sequence[Document]) -> Iterable[list[str]]:
    for line in lines:
        fields = ("wall_s_per_gb", "cpu_s_per_gb", "of_codec")
        yield [line["what"], *(f"{line[field]:.2f}" for field in fields)]


def _alternative_cells(lines: Sequence[Document]) -> Iterable[list[str]]:
    for line in lines:
        if "note" in line:
            yield [line["what"], line["note"], "", "", "", ""]
        else:
            yield [line["what"], line["order"], *_speeds(line)]


def _writing_cells(lines: Sequence[Document]) -> Iterable[list[str]]:
    for line in lines:
        fields = ("gb_s", "gb_per_cpu_s", "share", "share_of_time")
        yield [line["what"], *(f"{line[field]:.2f}" for field in fields)]


def _opening_cells(lines: Sequence[Document]) -> Iterable[list[str]]:
    for line in lines:
        counts = [f"{line[field]:,}" for field in ("samples", "variants", "shards")]
        seconds = [f"{line[field]:.3f}" for field in ("open_s", "is_complete_s")]
        memory = [f"{line[field]:.1f}" for field in ("memory_mb", "peak_memory_mb")]
        yield [*counts, *seconds, *memory]
