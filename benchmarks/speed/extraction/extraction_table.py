"""The results of `benchmarks.speed.extraction` as Markdown, for docs/speed.md."""

from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.markdown import pasted
from benchmarks.speed.extraction.extraction_goal import goal_in_words
from benchmarks.speed.gpu.cases import NOT_MEASURED

# The tables of a CPU and of a GPU are in different places of the page.
MARKERS = {
    "cpu": "<!-- benchmarks.speed.extraction: {} -->",
    "cuda": "<!-- benchmarks.speed.extraction on a GPU: {} -->",
}

Document = dict[str, Any]


def in_page(page: str, document: Document) -> str:
    """Return the page with the tables of this document between the markers of its kind of device.

    Raises:
        ValueError: if the page lacks a marker.
    """
    begin, end = (MARKERS[document["device"]].format(word) for word in ("begin", "end"))
    return pasted(page, begin, end, table(document))


def table(document: Document) -> str:
    """Return what was measured, as paragraphs and tables."""
    return "\n\n".join(
        [
            _conditions(document),
            *([goal_in_words(document["goal"])] if document["goal"] else []),
            *_stages(document),
            *_whole(document),
            *_memory(document),
            *_reasons(document["left_out"], "left out:", ("what",)),
        ]
    )


def _conditions(document: Document) -> str:
    machine = document["machine"]
    device = machine["processor"] if machine["device"] == "none" else machine["device"]
    load_after = document.get("load_after")
    load = f"{document['load_before']:.1f}" + (f" to {load_after:.1f}" if load_after else "")
    return (
        f"`{document['preset']}`, {document['samples']} samples of {document['frames']} frames, "
        f"batches of {document['batch_size']}, `{document['codec']}`; {device}, "
        f"{document['cores']} cores, load {load}, {machine['measured_at'][:10]}."
    )


def _stages(document: Document) -> Iterator[str]:
    if not document["stages"]:
        return
    lines = ["| stage, per sample | ms | CPU ms |", "|---|---|---|"]
    lines += [
        f"| {name} | {stage['wall_ms']:.1f} | {stage['cpu_ms']:.1f} |"
        for name, stage in document["stages"].items()
    ]
    lines.append(f"| codec alone / write, by CPU time | | {document['write_share']:.2f} |")
    beside = document["limits"]["beside_backbones_cpu_s"] * 1e3
    lines.append(f"| load, join, check, write: beside the backbones | | {beside:.0f} |")
    yield "\n".join(lines)


def _whole(document: Document) -> Iterator[str]:
    measured = [run for run in document["whole"] if NOT_MEASURED not in run]
    if measured:
        yield "\n".join(
            [
                "| processes, loaders in all, batch | samples/s | loading, computing, writing "
                "could do | backbones alone, samples/s | time of a sample / backbones' own | "
                "start, s | CPU ms | padded, % | peak device MB |",
                "|---|---|---|---|---|---|---|---|---|",
                *map(_run, measured),
            ]
        )
        yield from _queueing(measured)
    keys = ("processes", "workers", "batch_size")
    yield from _reasons(document["whole"], "processes, loaders, batch", keys)
    allowed = document["limits"]["samples_per_s"]
    if allowed:
        bounds = ", ".join(f"{name} {rate:.3g}/s" for name, rate in allowed.items())
        more = (
            f" ({document['disk_mb_per_s']:.0f} MB/s)" if document["disk_mb_per_s"] else "",
            f" All cores side by side load and encode {document['cores_per_s']:.3g}/s."
            if document["cores_per_s"]
            else "",
        )
        yield f"Limits: {bounds}{more[0]}; {document['limits']['limit']} holds.{more[1]}"


def _queueing(runs: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield what the thread that queues work did, run by run."""
    rows = [
        f"| {_named(run)} | {seen['queueing_ms']:.1f} | {seen['thread_cpu_ms']:.1f} | "
        f"{_shares(seen['thread_shares'])} | {_shares(seen['busiest'])} |"
        for run in runs
        if (seen := run.get("queueing"))
    ]
    if rows:
        head = [
            "| processes, loaders in all, batch | queueing a batch, ms | its thread's CPU ms | "
            "the thread's time | where it was while queueing |",
            "|---|---|---|---|---|",
        ]
        yield "\n".join([*head, *rows])


def _shares(shares: dict[str, float]) -> str:
    return ", ".join(f"{name} {100 * share:.0f}%" for name, share in shares.items())


def _named(run: dict[str, Any]) -> str:
    loading = f"{run['workers']}" if run["workers"] else "a thread"
    return f"{run['processes']}, {loading}, {run['batch_size']}"


def _run(run: dict[str, Any]) -> str:
    cells = [
        _named(run),
        _number(run["steady_per_s"], ".3g"),
        ", ".join(f"{rate:.3g}" for rate in run.get("stage_rates", {}).values()),
        f"{1 / run['backbones_wall_s']:.3g}",
        _number(run["ratio"], ".2f"),
        _number(run["start_s"], ".1f"),
        f"{run['cpu_s'] * 1e3:.0f}",
        f"{100 * run['padded_share']:.1f}",
        f"{run['peak_device_mb']:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def _number(number: float | None, form: str) -> str:
    return "none" if number is None else format(number, form)


def _memory(document: Document) -> Iterator[str]:
    measured = [run for run in document["memory"] if NOT_MEASURED not in run]
    if measured:
        lines = ["| writing | rows in memory | bound, MB | peak, MB |", "|---|---|---|---|"]
        lines += [
            f"| {run['width']} {run['kind']} | {run['rows_in_memory']} | {run['bound_mb']:.0f} | "
            f"{run['peak_mb']:.0f} |"
            for run in measured
        ]
        yield "\n".join(lines)
    yield from _reasons(document["memory"], "memory of writing", ("width", "kind"))


def _reasons(runs: Sequence[dict[str, Any]], what: str, keys: Sequence[str]) -> Iterator[str]:
    """Yield a line for every run that was not measured, with the reason."""
    for run in runs:
        if NOT_MEASURED in run:
            numbers = ", ".join(str(run[key]) for key in keys)
            yield f"- {what} {numbers}: {NOT_MEASURED}: {run[NOT_MEASURED]}"
