"""What was measured, as Markdown."""

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.markdown import table
from benchmarks.speed.gpu.cases import NOT_MEASURED, Row
from benchmarks.speed.gpu.goals import Document, goals_table, step_of

MILLISECONDS = 1e3


def markdown(document: Document) -> str:
    """Return everything that docs/speed.md holds between its markers."""
    if not document:
        return goals_table(document)
    parts = [goals_table(document), _about(document)]
    for entry in document["sections"]:
        title, heads, cells = TABLES[entry["section"]]
        ended = "" if entry["ended"] == "complete" else f" ({entry['ended']})"
        parts.append(f"**{title}, {entry['preset']}**{ended}")
        measured = [row for row in entry["rows"] if NOT_MEASURED not in row]
        if measured:
            parts.append(table(heads, map(cells, measured)))
        if entry["section"] == "loader":
            parts += _need(document, entry["preset"])
        parts += [
            f"- {_name(row)}: not measured: {row[NOT_MEASURED]}"
            for row in entry["rows"]
            if NOT_MEASURED in row
        ]
    return "\n\n".join(parts)


def _about(document: Document) -> str:
    here = document["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in here["versions"].items())
    stores = "; ".join(
        f"{name}: {store['samples']} samples of {store['sample_mb']:.1f} MB, "
        f"{store['disk_mb']:,.0f} MB on disk, {store['kind']}"
        for name, store in document["stores"].items()
    )
    return (
        f"{here['device']}, driver {here['driver']}, {here['clock_mhz']} MHz, "
        f"{here['power_limit_w']} W, {here['cores']} cores of {here['processor']}, Python "
        f"{here['python']}, {versions}. {here['measured_at']}, "
        f"{document['seconds']:.0f} s. Stores: {stores}."
    )


def _need(document: Document, preset: str) -> list[str]:
    """Return how many samples per second the largest measured step takes, if one was measured."""
    step = step_of(document, "cmt", 16, preset)
    if step is None:
        return []
    return [f"A `cmt` step of batch 16 uses {16 / step['step_s']:.0f} samples/s."]


def _name(row: Row) -> str:
    return ", ".join(str(value) for name, value in row.items() if name != NOT_MEASURED)


def _number(value: Any, factor: float = 1.0, digits: int = 1) -> str:
    return "" if value is None else f"{factor * value:,.{digits}f}"


def _step_cells(row: Row) -> list[str]:
    pieces = row.get("pieces_s", {})
    waits = row.get("synchronisations")
    return [
        str(row.get("recipe") or row.get("strategy")),
        str(row["batch"]),
        row["precision"],
        _number(row["step_s"], MILLISECONDS),
        *(
            _number(pieces.get(name), MILLISECONDS)
            for name in ("forward", "losses", "backward", "update")
        ),
        _number(row.get("kernel_s"), MILLISECONDS),
        _number(row.get("launches"), digits=0),
        "" if waits is None else _number(sum(waits.values())),
        _number(row["samples_per_s"]),
        _number(row["waiting_share"], 100.0),
        _number(row.get("peak_mb"), digits=0),
    ]


def _attention_cells(row: Row) -> list[str]:
    if row["what"] == "inputs":
        limits = row["limits_ms"] or {}
        size = f"{row['samples']} x {row['heads']} x {row['queries']} x {row['tokens']:,}"
        times = [limits.get(name) for name in ("forward", "forward_and_backward")]
        return [f"limit of the device, {row['profile']}: {size} scores", *map(_precise, times), ""]
    if row["what"] == "weight generator":
        fields = ("generator_forward_ms_per_sample", "generator_ms_per_sample", "generator_peak_mb")
        return ["weight generator, per sample", *(_precise(row[name]) for name in fields)]
    about = row.get("kernel") or f"{row['profile']}, tables {row['tables']}"
    times = [row["forward_ms"], row["forward_and_backward_ms"]]
    return [f"{row['what']}: {about}", *map(_precise, times), _number(row["peak_mb"], digits=0)]


def _precise(value: Any) -> str:
    return _number(value, digits=3)


def _start_cells(row: Row) -> list[str]:
    fields = ("imports_s", "model_and_data_s", "first_step_s", "later_step_s")
    times = [_number(row[name], digits=2) for name in fields]
    return [row["recipe"], row["kernels"], *times, str(row["cached_files"])]


def _loader_cells(row: Row) -> list[str]:
    speeds = [row["samples_per_s"], row["codec_samples_per_s"]]
    share = _number(row["share_of_codec"], 100.0, 0)
    return [str(row["threads"]), *map(_number, speeds), share]


STEP_HEADS = (
    *("", "batch", "precision", "step, ms", "forward", "losses", "backward", "update"),
    *("kernels, ms", "launches", "waits", "samples/s", "waiting for data, %", "peak MB"),
)
TABLES: dict[str, tuple[str, Sequence[str], Callable[[Row], list[str]]]] = {
    "attention": (
        "Attention of one layer",
        ("", "forward, ms", "forward and backward, ms", "MB"),
        _attention_cells,
    ),
    "steps": ("Training steps from the store", STEP_HEADS, _step_cells),
    "start": (
        "First step after a start",
        ("", "kernels", "imports, s", "model, s", "first step, s", "later step, s", "cached files"),
        _start_cells,
    ),
    "loader": (
        "The loader alone",
        ("threads", "samples/s", "codec alone", "% of codec"),
        _loader_cells,
    ),
    "live": ("From the store, live, fine-tuning", STEP_HEADS, _step_cells),
}
