"""What the files of a run are called, and how rows of its logs are read; it imports no torch.

Whatever looks at runs without training one starts at once.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shared.errors import TrainingError

CONFIG = "config.json"
OVERRIDES = "overrides"  # key of the config: for people, it does not decide what may be resumed
BEST_SCORES = "best.json"  # of best.pt, next to it, written last
LOCK = ".training.lock"
LOG = "log.csv"
TIMING = "timing.csv"
PEAK_GPU_MB = "peak_gpu_mb"  # its column, empty on a CPU
VALIDATION = "validation.csv"
LONGEST_ROW = 2**16  # bytes; some 50 columns have 1,000


def rows_before(step: float, file: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a log before a step; none if there is no such file.

    Raises:
        TrainingError: if it is damaged.
    """
    if not file.exists():
        return
    try:
        with file.open(newline="") as handle:
            yield from (row for row in csv.DictReader(handle) if int(row["step"]) < step)
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise TrainingError(
            f"{file} is damaged ({error!r}), expected a table with the column step. Move it away "
            "and run the same command again; the run resumes, with a log from there on"
        ) from error


def last_row(file: Path) -> dict[str, str]:
    """Return the last row of a log, which may be long; it has one."""
    with file.open(newline="") as handle:
        columns = next(csv.reader(handle))
    with file.open("rb") as content:
        content.seek(max(0, file.stat().st_size - LONGEST_ROW))
        last = content.read().decode().splitlines()[-1]
    return dict(zip(columns, next(csv.reader([last])), strict=True))
