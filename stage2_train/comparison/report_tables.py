"""The tables of a comparison, as cells: the same for terminal, Markdown, CSV and HTML."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mean, stdev

import numpy as np

from stage2_train.comparison.compared_run import CODE, MEAN_NDS, ComparedRun
from stage2_train.comparison.paired_test import CONFIDENCE, METRICS, ScoreDifference
from stage2_train.comparison.run_groups import (
    ABSENT,
    NAME,
    SEED,
    START,
    RunGroup,
    fields_that_differ,
    short_field,
    shown_value,
)

WIDEST = 100  # characters of a table in a terminal, if long columns are left out

Scores = dict[str, tuple[float, float]]  # mAP and NDS by name of the run


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportTable:
    """A table with its heading and what has to be said about it.

    Args:
        name: of its CSV file.
        title: its heading.
        head: names of the columns.
        rows: cells as text.
        notes: sentences to read with it.
        long: those of the columns that only the CSV file and the details of the page show.
    """

    name: str
    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    long: tuple[str, ...] = ()

    def shortened(self) -> "ReportTable":
        """Return the table without its long columns."""
        short = [i for i, name in enumerate(self.head) if name not in self.long]
        head = tuple(self.head[i] for i in short)
        rows = tuple(tuple(row[i] for i in short) for row in self.rows)
        return replace(self, head=head, rows=rows, long=())


def fields_table(runs: Sequence[ComparedRun]) -> ReportTable:
    """Return what differs in recipe, store and weights: a row per run, a column per field."""
    fields = [field for field in fields_that_differ(runs) if field != START]
    stores = {run.config.get("store") for run in runs}
    notes = [] if fields else ["The runs have the same recipe, preset and store."]
    if len(stores) > 1:
        notes.append(
            f"The runs were trained on {len(stores)} different stores, so their training losses "
            "are not measured on the same features."
        )
    if CODE in fields:
        notes.append(
            "Not all runs are known to be made by the same code (of cache, shared, stage2_train), "
            "so a difference may come from that. Runs of different code are not averaged."
        )
    head = ("run", *map(short_field, fields))
    rows = tuple((run.name, *(shown_value(run, field) for field in fields)) for run in runs)
    long = _long_columns(head, rows)
    if long:
        names = ", ".join(dict.fromkeys(name.partition(".")[0] for name in long))
        notes.append(f"They also differ in {names}, too long for here: --out writes fields.csv.")
    return ReportTable(
        name="fields", title="What differs", head=head, rows=rows, notes=tuple(notes), long=long
    )


def _long_columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return the columns to leave out for a table to fit, the widest fields of a recipe first.

    Names and seeds stay, and with them what tells most runs apart.
    """
    widths: Counter[str] = Counter()
    for column in zip(head, *rows, strict=True):
        widths[column[0].partition(".")[0]] += 2 + max(map(len, column))
    left_out: set[str] = set()
    for field, _ in widths.most_common():
        if widths.total() <= WIDEST:
            break
        if field not in ("run", *map(short_field, (NAME, SEED))):
            left_out.add(field)
            del widths[field]
    return tuple(name for name in head if name.partition(".")[0] in left_out)


def runs_table(runs: Sequence[ComparedRun], scores: Scores) -> ReportTable:
    """Return final and best metrics, time and memory: a row per run, no column without a value."""
    head = (
        *("run", "steps", "final loss", *METRICS, "best NDS", "NDS at step"),
        *("best mean NDS", "mean NDS at step", "lowest val. loss", "loss at step"),
        *("s/step", "training min", "host MB", "GPU MB"),
    )
    notes = ["The final loss is the mean training loss of the last tenth of the steps."]
    notes += _evaluations_compared(runs)
    notes += [f"{run.name}: {note}." for run in runs for note in run.notes]
    if any(run.peak_memory_mb is None for run in runs):
        notes.append("Memory on the host is only known of runs that sweep-stage2 started.")
    rows = [_run_row(run, scores) for run in runs]
    measured = [i for i in range(len(head)) if any(row[i] != ABSENT for row in rows)]
    return ReportTable(
        name="runs",
        title="Runs",
        head=tuple(head[i] for i in measured),
        rows=tuple(tuple(row[i] for i in measured) for row in rows),
        notes=tuple(notes),
    )


def _evaluations_compared(runs: Sequence[ComparedRun]) -> list[str]:
    """Say by which evaluations runs are compared, and which else they have."""
    runs_by: dict[str, list[str]] = defaultdict(list)
    for run in runs:
        if run.evaluations:
            runs_by[run.evaluations[0]].append(run.name)
    if not runs_by:
        return []
    several = [f"{folder} of {', '.join(names)}" for folder, names in runs_by.items()]
    taken = "; ".join(several) if len(several) > 1 else next(iter(runs_by))
    rest = sorted({folder for run in runs for folder in run.evaluations[1:]} - {*runs_by})
    passed_over = f", not {', '.join(rest)} (--evaluation takes another)" if rest else ""
    notes = [f"Detections compared are those in {taken}{passed_over}."]
    if len({run.evaluated_by for run in runs} - {""}) > 1:
        named = ", ".join(f"{run.name} by {run.evaluated_by}" for run in runs if run.evaluated_by)
        notes.append(
            f"They are not all known to be evaluated by the same code ({named}), so a difference "
            "in their metrics may come from that: evaluate-stage2 again, with the same code."
        )
    return notes


def _run_row(run: ComparedRun, scores: Scores) -> tuple[str, ...]:
    seconds = run.seconds
    return (
        run.name,
        f"{run.log['step'][-1]:.0f}",
        number(run.final_loss),
        *map(number, scores.get(run.name, (math.nan, math.nan))),
        *best(run, "NDS", is_high=True),
        *best(run, MEAN_NDS, is_high=True),
        *best(run, "loss", is_high=False),
        number(float(np.median(seconds)) if seconds.size else math.nan),
        number(float(seconds.sum()) / 60 if seconds.size else math.nan, digits=1),
        number(math.nan if run.peak_memory_mb is None else run.peak_memory_mb, digits=0),
        number(run.peak_gpu_mb, digits=0),
    )


def best(run: ComparedRun, column: str, *, is_high: bool) -> tuple[str, str]:
    """Return the best value of a validation metric and the step it was reached at."""
    at = run.best_validation(column, is_high=is_high)
    if at is None:
        return ABSENT, ABSENT
    return number(float(run.validation[column][at])), f"{run.validation['step'][at]:.0f}"


def groups_table(groups: Sequence[RunGroup], scores: Scores) -> ReportTable:
    """Return mean and standard deviation over seeds: a row per group."""
    has_mean = any(MEAN_NDS in run.validation for group in groups for run in group.runs)
    rows = []
    for group in groups:
        columns = [[run.final_loss for run in group.runs]]
        columns += [
            [scores[run.name][i] for run in group.runs if run.name in scores]
            for i in range(len(METRICS))
        ]
        if has_mean:
            at = [(run, run.best_validation(MEAN_NDS, is_high=True)) for run in group.runs]
            columns.append([float(run.validation[MEAN_NDS][i]) for run, i in at if i is not None])
        rows.append((group.name, str(len(group.runs)), *map(_spread, columns)))
    head = ("runs that differ only in their seed", "runs", "final loss", *METRICS)
    return ReportTable(
        name="seeds",
        title="Over seeds",
        head=(*head, "best mean NDS") if has_mean else head,
        rows=tuple(rows),
        notes=("Mean and standard deviation over the runs.",),
    )


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ABSENT
    return number(mean(values)) + (f" +- {number(stdev(values))}" if len(values) > 1 else "")


def differences_table(
    name: str, title: str, differences: Sequence[ScoreDifference], notes: Sequence[str]
) -> ReportTable:
    """Return differences and their intervals: a row per pair and metric."""
    chance = (1 - CONFIDENCE) * len(differences)
    notes = [*notes]
    if differences:
        notes.append(
            f"Among {len(differences)} differences of which none is real, about {chance:.0f} would "
            "be called real by chance."
            if chance >= 1
            else "A difference is called real if its interval does not contain 0."
        )
    return ReportTable(
        name=name,
        title=title,
        head=("first", "second", "metric", "first - second", f"{CONFIDENCE:.0%} interval", "real"),
        rows=tuple(
            (
                *(pair.first, pair.second, pair.metric, f"{pair.value:+.4f}"),
                f"{pair.low:+.4f} to {pair.high:+.4f}",
                "yes" if pair.is_real else "no",
            )
            for pair in differences
        ),
        notes=tuple(notes),
    )


def number(value: float, digits: int = 4) -> str:
    """Return a number with so many decimals, or a dash where nothing was measured."""
    return f"{value:.{digits}f}" if math.isfinite(value) else ABSENT
