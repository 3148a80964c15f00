"""The detections of several runs, matched with the true boxes of the same samples."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.errors import DatasetError
from stage2_train.comparison.compared_run import ComparedRun
from stage2_train.comparison.sample_matches import RunMatches, match_samples
from stage2_train.evaluation.official_metrics import devkit_evaluation
from stage2_train.evaluation.official_tables import coverage, open_tables, version_of
from stage2_train.evaluation.submission import Submission, read_submission

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class MatchedRuns:
    """Matches of all runs that have detections in the same samples.

    Args:
        matches: by name of the run.
        scenes: scene of each sample, by tokens.
        notes: which samples these are, and which runs are left out and why.
    """

    matches: dict[str, RunMatches]
    scenes: dict[str, str]
    notes: tuple[str, ...]


def match_runs(runs: Sequence[ComparedRun], nuscenes_root: Path) -> MatchedRuns:
    """Match the detections of all runs with true boxes.

    Args:
        runs: those without detections are left out, as are those in other samples than most.
        nuscenes_root: folder with the tables.

    Raises:
        DatasetError: if the tables lack the samples, or cannot be opened.
    """
    submissions, notes = _submissions(runs)
    if not submissions:
        return MatchedRuns(matches={}, scenes={}, notes=(*notes, "no run has detections"))
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
    matches = {}
    for name in names:
        log.info("matching the detections of %s", name)
        detected = submissions[name]
        boxes = devkit_evaluation(tables, detected.path, covered, detected.tokens)
        matches[name] = match_samples(boxes.gt_boxes, boxes.pred_boxes, boxes.cfg)
    scenes = {token: _scene(tables, token) for token in samples}
    return MatchedRuns(matches=matches, scenes=scenes, notes=(covered.statement(), *notes))


def _submissions(runs: Sequence[ComparedRun]) -> tuple[dict[str, Submission], list[str]]:
    """Read the detections of the runs that have any the devkit can rank."""
    submissions, notes = {}, []
    for run in runs:
        if run.results is None:
            continue
        try:
            submissions[run.name] = read_submission(run.results)
        except DatasetError as error:
            notes.append(f"{run.name} is left out of the test: {error}")
    return submissions, notes


def _scene(tables: Any, token: str) -> str:
    name: str = tables.get("scene", tables.get("sample", token)["scene_token"])["name"]
    return name
