"""What a run folder holds that runs can be compared by, read without trusting it.

A folder that is no run, or a torn one, is left out with the reason; what a run lacks is noted.
"""

import csv
import json
import math
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.code_digest import UNKNOWN_CODE
from shared.errors import TrainingError
from stage2_train.comparison.run_evaluations import (
    SUMMARY,
    evaluation_results,
    newest_repetition,
    ranked_evaluations,
)
from stage2_train.evaluation.evaluation_folder import RECORD, RESULTS
from stage2_train.run.code_record import CODE_RECORD, THEN, recorded_code
from stage2_train.run.run_files import CONFIG, LOG, PEAK_GPU_MB, TIMING, VALIDATION
from stage2_train.sweep.sweep_plan import FINISHED, SWEEP

MEAN_NDS = "mean_NDS"  # column of validation.csv, of runs that are validated under conditions
PAGE = "comparison.html"  # of a comparison, which may lie among the runs
CODE = "code"  # field of `ComparedRun.config`
LAST_SHARE = 0.1  # of the steps; their mean loss is the final one

Table = dict[str, NDArray[np.float64]]


class UnreadableRunError(Exception):
    """A folder that cannot be compared; the message says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparedRun:
    """A run as its folder tells it.

    Args:
        name: by which tables call it.
        path: its folder.
        config: its config.json, flat: field with dots -> value; and its `CODE`, see
            `recorded_code`.
        log: the columns "step" and "loss" of log.csv.
        timing: columns of timing.csv that are compared; empty without it.
        validation: columns of validation.csv, NaN where nothing was measured; empty without it.
        results: the detections to compare, if there are any.
        evaluations: the folders in it that have detections, by name; the first is compared.
        summary: nuscenes-devkit's metrics beside them; empty without.
        evaluated_by: the code that evaluated, see `shared.code_digest`; "" where no record says of
            what the evaluation is, as of the validation that ends a run.
        peak_memory_mb: of the run's process on the host, if a sweep measured it.
        notes: what it lacks, in words.
    """

    name: str
    path: Path
    config: dict[str, Any]
    log: Table
    timing: Table
    validation: Table
    results: Path | None
    evaluations: tuple[str, ...]
    summary: dict[str, Any]
    evaluated_by: str
    peak_memory_mb: float | None
    notes: tuple[str, ...]

    @property
    def final_loss(self) -> float:
        """The mean training loss of the last tenth of its steps."""
        losses = self.log["loss"][np.isfinite(self.log["loss"])]  # a skipped step has none
        return float(losses[-max(1, round(LAST_SHARE * len(losses))) :].mean())

    def best_validation(self, column: str, *, is_high: bool) -> int | None:
        """Return the row of validation.csv with the best value; None if none was measured."""
        values = self.validation.get(column, np.zeros(0))
        if not np.isfinite(values).any():
            return None
        return int(np.nanargmax(values) if is_high else np.nanargmin(values))

    @property
    def peak_gpu_mb(self) -> float:
        """The most memory in tensors on the first process' GPU; NaN if none was measured."""
        peaks = self.timing.get(PEAK_GPU_MB, np.zeros(0))
        measured = peaks[np.isfinite(peaks)]
        return float(measured.max()) if measured.size else math.nan

    @property
    def seconds(self) -> NDArray[np.float64]:
        """The seconds of each logged step; empty without timing.csv."""
        pieces = [values for name, values in self.timing.items() if name.startswith("seconds/")]
        return np.sum(pieces, axis=0) if pieces else np.zeros(0)


def run_folders(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the folders to look at: those named, and those in a named folder of a sweep.

    `runs/*` also matches the file of a sweep and the folder of an earlier comparison: not these.
    """
    for path in paths:
        if (path / SWEEP).is_file():
            yield from run_folders(sorted(inside for inside in path.iterdir() if inside.is_dir()))
        elif path.name != SWEEP and not (path / PAGE).is_file():
            yield path


def read_run(
    path: Path, name: str, ranked: Sequence[str] | None = None, *, is_asked_for: bool = False
) -> ComparedRun:
    """Read a run folder.

    Args:
        path: the folder.
        name: for tables.
        ranked: evaluations of which the first that it has is compared (default: its own), in its
            newest repetition.
        is_asked_for: whether the evaluation is compared itself, whatever repeats it.

    Raises:
        UnreadableRunError: if it is none, or its config or log cannot be read.
    """
    if not path.is_dir():
        raise UnreadableRunError("no folder" if path.exists() else "does not exist")
    if not (path / CONFIG).is_file():
        raise UnreadableRunError(f"no run of train-stage2: it has no {CONFIG}")
    config = dict(_flat(_read_json(path / CONFIG)))
    if not any(field.startswith("recipe.") for field in config):
        raise UnreadableRunError(f"{CONFIG} has no recipe; expected what train-stage2 writes")
    if not (path / LOG).is_file():
        raise UnreadableRunError(f"no {LOG} yet: the run has not reached its first checkpoint")
    log = _read_table(path / LOG, ("step", "loss"))
    notes: list[str] = []
    tables: dict[str, Table] = {}
    for file, columns in ((TIMING, (PEAK_GPU_MB, "seconds/*")), (VALIDATION, ("*",))):
        tables[file] = {}
        try:
            if (path / file).is_file():
                tables[file] = _read_table(path / file, ("step",), columns)
        except UnreadableRunError as error:
            notes.append(str(error))
    config[CODE] = _code(path, notes)
    results = evaluation_results(path)
    evaluations = [folder for folder in ranked or ranked_evaluations([path]) if folder in results]
    if not evaluations:
        what = RESULTS if ranked is None or not results else f"evaluation {', '.join(ranked)}"
        notes.append(f"no {what} in it: compared by its log (evaluate-stage2 makes one)")
    elif not is_asked_for:
        newest = newest_repetition(path, evaluations[0])
        if newest != evaluations[0]:
            notes.append(f"{newest} is newer than {evaluations[0]}, so it is compared")
        evaluations.insert(0, newest)
    record = _optional_json(path / evaluations[0] / RECORD, notes) if evaluations else {}
    return ComparedRun(
        name=name,
        path=path,
        config=config,
        log=log,
        timing=tables[TIMING],
        validation=tables[VALIDATION],
        results=results[evaluations[0]] if evaluations else None,
        evaluations=tuple(dict.fromkeys((*evaluations, *results))) if evaluations else (),
        summary=_optional_json(path / evaluations[0] / SUMMARY, notes) if evaluations else {},
        evaluated_by=str(record.get(CODE, UNKNOWN_CODE)) if record else "",
        peak_memory_mb=_optional_json(path / FINISHED, notes).get("peak_memory_mb"),
        notes=tuple(notes),
    )


def _code(path: Path, notes: list[str]) -> str:
    try:
        code = recorded_code(path)
    except TrainingError:
        notes.append(
            f"{CODE_RECORD} is damaged, so the code that made the run counts as {UNKNOWN_CODE}"
        )
        return UNKNOWN_CODE
    if THEN in code:
        notes.append(f"not all its steps are known to be by the same code: {code}")
    return code


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the fields of a JSON document; a list of (name, number) pairs is fields, too."""
    is_pairs = isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) for pair in value
    )
    if isinstance(value, Mapping) or (is_pairs and value):
        for key, inner in dict(value).items():
            yield from _flat(inner, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix, value


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise UnreadableRunError(f"{file.name} cannot be read ({error})") from None
    if not isinstance(content, dict):
        raise UnreadableRunError(f"{file.name} is no JSON object")
    return content


def _optional_json(file: Path, notes: list[str]) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        return _read_json(file)
    except UnreadableRunError as error:
        notes.append(str(error))
        return {}


def _read_table(file: Path, needed: tuple[str, ...], also: tuple[str, ...] = ()) -> Table:
    """Return columns of numbers of a CSV; an empty cell is NaN.

    Only these are looked at: the `needed`, each of which has a number, and what fits a pattern.
    """
    try:
        with file.open(newline="") as handle:
            reader = csv.reader(handle, strict=True)
            head = next(reader, [])
            columns = {
                name: (place, array("d"))
                for place, name in enumerate(head)
                if any(fnmatchcase(name, pattern) for pattern in (*needed, *also))
            }
            for row in filter(None, reader):
                if len(row) > len(head):
                    raise ValueError(f"line {reader.line_num}: more cells than columns")
                row += [""] * (len(head) - len(row))
                for place, values in columns.values():
                    values.append(float(row[place] or "nan"))
    except (OSError, ValueError, csv.Error) as error:
        raise UnreadableRunError(f"{file.name} is damaged ({error})") from None
    table = {name: np.array(values) for name, (_, values) in columns.items()}
    lacking = [name for name in needed if name not in table or not np.isfinite(table[name]).any()]
    if lacking:
        raise UnreadableRunError(f"{file.name} is damaged: nothing in column {', '.join(lacking)}")
    return table
