"""The cases of a section: each is measured if there is time, and written down at once."""

import gc
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from shared.errors import InterruptedWorkError

Row = dict[str, Any]
NOT_MEASURED = "not measured"  # key of a row that has a reason instead of numbers


class Cases:
    """Runs cases until the section's time is over.

    Args:
        file: gets one JSON document per line and case.
        seconds: of the section, from now on.
    """

    def __init__(self, file: Path, seconds: float) -> None:
        self.file = file
        self.deadline = time.monotonic() + seconds
        self.longest_s = 0.0

    def run(self, about: Row, measure: Callable[[], Row]) -> Row:
        """Measure a case, or write why not: no time is left, or it raised.

        Args:
            about: what tells the case apart.
            measure: returns its numbers.

        Returns:
            What was written.
        """
        gc.collect()  # what an earlier case left on the device
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        started = time.monotonic()
        left_s = self.deadline - started
        if left_s < self.longest_s:
            row = {NOT_MEASURED: f"{left_s:.0f} s are left, cases take up to {self.longest_s:.0f}"}
        else:
            row = attempted(measure)
            self.longest_s = max(self.longest_s, time.monotonic() - started)
        row = about | row
        with self.file.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)
        return row


def attempted(measure: Callable[[], Row]) -> Row:
    """Return the numbers of a case, or what it raised."""
    try:
        return measure()
    except InterruptedWorkError:  # the time is over
        raise
    except Exception as error:  # the other cases are measured nevertheless
        return {NOT_MEASURED: f"{type(error).__name__}: {error}"[:400]}


def read_rows(file: Path) -> list[Row]:
    """Return the rows written so far; a last line cut short by a kill is left out."""
    if not file.exists():
        return []
    lines = file.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]
