"""The detections of several runs, matched with true boxes and scored on draws of the same samples.

Of a whole split a run takes minutes of a core and gigabytes of boxes and matches. Runs are worked
on side by side, each in a process of its own that returns nothing but scores.
"""

import logging
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.sharedctypes import RawArray
from pathlib import Path
from typing import Any

from tqdm import tqdm

from shared.errors import DatasetError
from shared.process.cores import available_cores
from shared.process.memory.available_memory import available_memory_bytes
from shared.wording import counted
from stage2_train.comparison.compared_run import ComparedRun
from stage2_train.comparison.paired_test import Resampled, resample
from stage2_train.comparison.sample_matches import match_samples
from stage2_train.evaluation.conditions.judging_processes import JudgingProcesses
from stage2_train.evaluation.official_metrics import devkit_evaluation
from stage2_train.evaluation.official_tables import coverage, open_tables, version_of
from stage2_train.evaluation.submission import Submission, read_submission

MEMORY_PER_RESULT_BYTE = 5  # that reading or matching a result JSON takes; 4.0 were measured

log = logging.getLogger(__name__)

Work = Callable[[str, Callable[[], None]], dict[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredRuns:
    """Scores of all runs that have detections in the same samples.

    Args:
        resampled: by name of the run.
        scenes: scene of each sample, by tokens.
        notes: which samples these are, and which runs are left out and why.
    """

    resampled: dict[str, Resampled]
    scenes: dict[str, str]
    notes: tuple[str, ...]


def score_runs(runs: Sequence[ComparedRun], nuscenes_root: Path, replicates: int) -> ScoredRuns:
    """Match the detections of all runs with true boxes, and score them on the same draws.

    Args:
        runs: those without detections are left out, as are those in other samples than most.
        nuscenes_root: folder with the tables.
        replicates: draws; none are made of a single scene.

    Raises:
        DatasetError: if the tables lack the samples, or cannot be opened.
    """
    submissions, notes = _submissions(runs)
    if not submissions:
        return ScoredRuns(resampled={}, scenes={}, notes=(*notes, "no run has detections"))
    by_samples: dict[frozenset[str], list[str]] = defaultdict(list)
    for name, submission in submissions.items():
        by_samples[frozenset(submission.tokens)].append(name)
    samples = max(by_samples, key=lambda tokens: (len(by_samples[tokens]), len(tokens)))
    names = by_samples[samples]
    notes += [
        f"{name} is left out of the test: it has {len(submission.tokens)} samples, not the same "
        f"{len(samples)} as {names[0]}"
        for name, submission in submissions.items()
        if name not in names
    ]
    first = submissions[names[0]]
    tables = open_tables(nuscenes_root, version_of(nuscenes_root, first.tokens, first.path))
    covered = coverage(tables, first.tokens)
    scenes = {token: _scene(tables, token) for token in samples}
    several = len(set(scenes.values()))
    draws = replicates if several > 1 else 0
    runs_scored, of = counted(len(names), "run"), counted(several, "scene")
    log.info("matching %s with true boxes, scoring on %d draws of %s", runs_scored, draws, of)

    def score(name: str, advance: Callable[[], None]) -> dict[str, Any]:
        detected = submissions[name]
        boxes = devkit_evaluation(tables, detected.path, covered, detected.tokens)
        matches = match_samples(boxes.gt_boxes, boxes.pred_boxes, boxes.cfg)
        return resample({name: matches}, scenes, draws, advance)

    files = {name: submissions[name].path for name in names}
    scored = _side_by_side("scoring", "draw", score, files, draws + 1)
    return ScoredRuns(
        resampled={name: of_run[name] for name, of_run in scored.items()},
        scenes=scenes,
        notes=(covered.statement(), *notes),
    )


def _submissions(runs: Sequence[ComparedRun]) -> tuple[dict[str, Submission], list[str]]:
    """Read the detections of the runs that have any the devkit can rank."""
    files = {run.name: run.results for run in runs if run.results is not None}

    def read(name: str, advance: Callable[[], None]) -> dict[str, Any]:
        try:
            return {"submission": read_submission(files[name])}
        except DatasetError as error:
            return {"fault": str(error)}
        finally:
            advance()

    answers = _side_by_side("reading detections", "run", read, files, 1)
    submissions, notes = {}, []
    for name, answer in answers.items():
        if "fault" in answer:
            notes.append(f"{name} is left out of the test: {answer['fault']}")
        else:
            submissions[name] = answer["submission"]
    return submissions, notes


def _scene(tables: Any, token: str) -> str:
    name: str = tables.get("scene", tables.get("sample", token)["scene_token"])["name"]
    return name


def _side_by_side(
    about: str, unit: str, work: Work, files: Mapping[str, Path], pieces: int
) -> dict[str, dict[str, Any]]:
    """Work on runs in processes; return what they return, by run.

    Args:
        about: what the work is.
        unit: what a piece of it is.
        work: takes the name of a run, and what to call after each piece.
        files: the detections of each run, by its name.
        pieces: of a run.
    """
    needed_bytes = {
        name: MEMORY_PER_RESULT_BYTE * file.stat().st_size for name, file in files.items()
    }
    count = _at_a_time(max(needed_bytes.values(), default=0))
    progress = _Progress(about, unit, len(files), pieces)
    with progress.bar, JudgingProcesses(count, progress.show) as processes:
        for i, name in enumerate(files):
            advance = partial(progress.advance, i)
            processes.judge(name, partial(work, name, advance), needed_bytes[name])
            if progress.bar.disable:  # there is no terminal
                log.info("%s: %s, run %d of %d", about, name, i + 1, len(files))
        answers = processes.results()
        progress.show()
    return dict(zip(files, answers, strict=True))


def _at_a_time(needed_bytes: int) -> int:
    """Return how many runs there are cores and memory for; 0 where a fork may crash."""
    if sys.platform != "linux":
        return 0
    return max(1, min(available_cores(), available_memory_bytes() // max(1, needed_bytes)))


class _Bar(tqdm):  # type: ignore[type-arg]
    monitor_interval = 0  # a fork must not be made while a thread holds the bar's lock


class _Progress:
    """A bar over what processes do; each counts in a place of its own, so that none waits."""

    def __init__(self, about: str, unit: str, runs: int, pieces: int) -> None:
        self.bar = _Bar(total=runs * pieces, desc=about, unit=unit, miniters=1, disable=None)
        self._done = RawArray("q", runs)
        self._process = os.getpid()

    def advance(self, run: int) -> None:
        self._done[run] += 1
        if os.getpid() == self._process:
            self.show()

    def show(self) -> None:
        self.bar.update(sum(self._done) - self.bar.n)
