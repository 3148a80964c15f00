"""The folder of an evaluation: which files it gets, and the name of its lock."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shared.process.folder_lock import make_folder
from shared.process.whole_file import remove_partials, whole_file
from stage2_train.evaluation.metric_tables import metrics_as_text

RESULTS = "results_nusc.json"
TABLES = "metrics.txt"
LOCK = ".evaluation.lock"
WRITTEN = (RESULTS, TABLES, "metrics_*.json", "conditions.*")  # with `whole_file`


def prepare_folder(folder: Path) -> None:
    """Create a folder, and remove what killed evaluations left half written."""
    make_folder(folder)
    for name in WRITTEN:
        remove_partials(folder, name)


def write_metrics(folder: Path, results: Path, summary: Mapping[str, Any]) -> None:
    """Write a summary of `official_metrics.judge` as text, below the name of its result JSON."""
    with whole_file(folder / TABLES, "w") as file:
        file.write(f"{results}\n{metrics_as_text(summary)}\n")
