"""With which code a run was made: code.csv, a row for every start.

`step` is the first step taken with the `code`, see `shared.code_digest`. As in every log of a run,
rows that a later start repeats are dropped: what was trained by their code was never saved.
"""

import itertools
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.code_digest import UNKNOWN_CODE, code_digest
from stage2_train.run.run_files import rows_before

if TYPE_CHECKING:
    from stage2_train.run.run_folder import RunFolder

log = logging.getLogger(__name__)

CODE_RECORD = "code.csv"
THEN = " then "  # between codes of a run that went on under changed code


def record_code(folder: "RunFolder", step: int) -> None:
    """Record that a run goes on with the code that is running; warn if that has changed.

    Args:
        folder: of the run.
        step: steps taken so far.

    Raises:
        TrainingError: if the record is damaged, or cannot be written.
    """
    code, first = code_digest(), step + 1
    before = list(rows_before(first, folder.path / CODE_RECORD))
    if before and _code(before[-1]) != code:
        log.warning(
            "%s goes on under changed code (%s, its last start had %s): what its %d steps have "
            "learnt is kept, what follows is computed by the changed code, and the run's results "
            "belong to both. For results of one code start anew, with another --out",
            folder.path,
            code,
            _code(before[-1]),
            step,
        )
    folder.log(CODE_RECORD, [{"step": first, "code": code}])


def recorded_code(folder: Path) -> str:
    """Return the digest of the code that a run was made with, or of each in turn, as words.

    Raises:
        TrainingError: if the record is damaged.
    """
    rows = list(rows_before(math.inf, folder / CODE_RECORD))
    codes = [_code(row) for row in rows]
    if not rows or int(rows[0]["step"]) > 1:
        codes.insert(0, UNKNOWN_CODE)
    return THEN.join(code for code, _ in itertools.groupby(codes))


def _code(row: Mapping[str, Any]) -> str:
    return row.get("code") or UNKNOWN_CODE
