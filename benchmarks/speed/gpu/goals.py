"""The goals on an H200, and what a measurement says about each."""

from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.speed.gpu.cases import NOT_MEASURED, Row
from benchmarks.speed.gpu.plan import R50, VOV

Document = dict[str, Any]
NO_GPU = "not measured: no GPU was at hand"
MILLISECONDS = 1e3


def rows_of(document: Document, preset: str, section: str, **about: Any) -> Iterator[Row]:
    """Yield the measured rows of a section that have these fields."""
    for entry in document.get("sections", ()):
        if (entry["preset"], entry["section"]) != (preset, section):
            continue
        for row in entry["rows"]:
            is_asked = all(row.get(name) == value for name, value in about.items())
            if is_asked and NOT_MEASURED not in row:
                yield row


def goals_table(document: Document) -> str:
    """Return the table of goals; `document` is empty where nothing was measured yet."""
    lines = [
        "| | goal | first GPU run 2026-11-26 (before) | now |",
        "|---|---|---|---|",
    ]
    for what, goal, before, now in GOALS:
        measured = now(document) or ("not measured" if document else NO_GPU)
        lines.append(f"| {what} | {goal} | {before} | {measured} |")
    return "\n".join(lines)


def attention_ratio(document: Document, preset: str) -> float | None:
    """Return biased / unbiased attention, forward and backward, against torch's fastest kernel."""
    field = "forward_and_backward_ms"
    plain = [row[field] for row in rows_of(document, preset, "attention", what="without a bias")]
    asked = {"what": "with a bias", "profile": "uniform", "tables": "of an earlier layer"}
    biased = [row[field] for row in rows_of(document, preset, "attention", **asked)]
    return biased[0] / min(plain) if plain and biased else None


def step_of(document: Document, recipe: str, batch: int, preset: str = R50) -> Row | None:
    """Return the step of a recipe in mixed precision."""
    steps = rows_of(document, preset, "steps", recipe=recipe, batch=batch)
    return next((row for row in steps if row["precision"] != "32-true"), None)


def _attention(preset: str) -> Callable[[Document], str]:
    def now(document: Document) -> str:
        ratio = attention_ratio(document, preset)
        return "" if ratio is None else f"{ratio:.2f}"

    return now


def _generator(document: Document) -> str:
    row = next(rows_of(document, R50, "attention", what="weight generator"), None)
    if row is None:
        return ""
    return (
        f"{row['attention_ms_per_sample']:.2f} ms ({row['generator_ms_per_sample']:.2f} with its "
        "feed-forward layers)"
    )


def _cmt_step(document: Document) -> str:
    row = step_of(document, "cmt", 16)
    if row is None:
        return ""
    step_ms = MILLISECONDS * row["step_s"]
    if "kernel_s" not in row:
        return f"{step_ms:.0f} ms"
    kernels_ms = MILLISECONDS * row["kernel_s"]
    return f"{step_ms:.0f} ms for {kernels_ms:.0f} ms of kernels ({step_ms / kernels_ms:.2f} x)"


def _aqr_over_cmt(document: Document) -> str:
    with_aqr, plain = step_of(document, "frozen_a", 16), step_of(document, "cmt", 16)
    if with_aqr is None or plain is None:
        return ""
    return f"{with_aqr['step_s'] / plain['step_s']:.2f}"


def _small_steps(document: Document) -> str:
    rows = [step_of(document, recipe, 2) for recipe in ("cmt", "frozen_a")]
    if None in rows:
        return ""
    return ", ".join(f"{MILLISECONDS * row['step_s']:.0f} ms" for row in rows if row is not None)


def _first_step(document: Document) -> str:
    starts = rows_of(document, R50, "start", recipe="frozen_a", kernels="cached")
    row = next(starts, None)
    return "" if row is None else f"{row['first_step_s']:.1f} s"


def _waiting(document: Document) -> str:
    row = step_of(document, "cmt", 16)
    return "" if row is None else f"{100 * row['waiting_share']:.0f}%"


GOALS: tuple[tuple[str, str, str, Callable[[Document], str]], ...] = (
    (
        "biased / unbiased attention, batch 4, forward and backward, r50",
        "at most 1.6, then toward 1.15",
        "17",
        _attention(R50),
    ),
    ("the same, vov", "at most 1.6, then toward 1.15", "20", _attention(VOV)),
    ("weight generator, per sample, forward and backward", "at most 0.5 ms", "11 ms", _generator),
    (
        "cmt step, batch 16",
        "at most 1.1 x its kernels, and these at most 110 ms",
        "186 ms for 121 ms of kernels (1.54 x)",
        _cmt_step,
    ),
    ("frozen_a step / cmt step, batch 16", "at most 1.45, then toward 1.2", "10", _aqr_over_cmt),
    ("step at batch 2: cmt, frozen_a", "at most 30 ms, 45 ms", "75 ms, 295 ms", _small_steps),
    (
        "first step after start, kernels cached on disk",
        "at most 3 s plus model loading",
        "12 s",
        _first_step,
    ),
    ("waiting for data, 16 cores, cmt, batch 16", "below 5% of the step", "not measured", _waiting),
)
