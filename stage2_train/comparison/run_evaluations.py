"""The evaluations in folders of runs, and which of them runs are compared by."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stage2_train.evaluation.evaluation_folder import RECORD, RESULTS, TIME
from stage2_train.run.run_files import CONFIG

FINAL_VALIDATION = "validation"  # folder of the one that ends a run
PREFERRED = (FINAL_VALIDATION, "val")  # of those that as many runs have
SUMMARY = "metrics_summary.json"


def evaluation_results(path: Path) -> dict[str, Path]:
    """Return the detections in a run's folder, by the name of the evaluation's folder.

    Evaluations without sensors lie in folders below one with all of them, and are not meant.
    """
    files = sorted(path.rglob(RESULTS))
    whole = [file for file in files if not (file.parents[1] / RESULTS).is_file()]
    return {str(file.parent.relative_to(path)): file for file in whole}


def ranked_evaluations(paths: Iterable[Path]) -> list[str]:
    """Return the evaluations in run folders, the one to compare runs by first.

    That is one on other samples than those trained on, and of these the one that most runs have.
    """
    on_training: dict[str, list[bool]] = defaultdict(list)
    for path in paths:
        for name, results in evaluation_results(path).items():
            on_training[name].append(_is_on_training_samples(path, results))
    return sorted(
        on_training,
        key=lambda name: (
            any(on_training[name]),
            -len(on_training[name]),
            PREFERRED.index(name) if name in PREFERRED else len(PREFERRED),
            name,
        ),
    )


def newest_repetition(path: Path, name: str) -> str:
    """Return the newest of an evaluation and those that repeat it on the same samples.

    After more training `evaluate-stage2` refuses the folder val, and suggests val-2.

    Args:
        path: folder of the run.
        name: of the evaluation's folder.
    """
    records = {
        folder: _content(path / folder / RECORD)
        for folder in evaluation_results(path)
        if folder == name or re.fullmatch(re.escape(name) + r"-[0-9]+", folder)
    }
    samples = records[name].get("samples")
    same = [folder for folder, record in records.items() if record.get("samples") == samples]
    if samples is None:
        return name
    # Older versions recorded no time, but each number is the first that was free.
    return max(same, key=lambda folder: (str(records[folder].get(TIME, "")), len(folder), folder))


def _is_on_training_samples(path: Path, results: Path) -> bool:
    """Return whether a run was evaluated on the store it was trained from, or a training split."""
    config, record, summary = (
        _content(file)
        for file in (path / CONFIG, results.with_name(RECORD), results.with_name(SUMMARY))
    )
    is_same = record.get("samples", "unknown") == config.get("store")
    return is_same or str(summary.get("split")).endswith("train")


def _content(file: Path) -> dict[str, Any]:
    """Return a JSON object; an empty one if there is none or it is damaged."""
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
