"""The folder of an evaluation: which files it gets, of what, and the name of its lock."""

import itertools
import json
import logging
import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shared.code_digest import UNKNOWN_CODE, code_digest
from shared.errors import ConfigError
from shared.process.folder_lock import make_folder
from shared.process.whole_file import remove_partials, whole_file
from stage2_train.evaluation.metric_tables import metrics_as_text

RESULTS = "results_nusc.json"
TABLES = "metrics.txt"
LOCK = ".evaluation.lock"
RECORD = "evaluation.json"
CODE = "code"  # in the record, see `shared.code_digest`
TIME = "time"  # in the record: when the evaluation began, in ISO 8601, UTC
WRITTEN = (RESULTS, TABLES, RECORD, "metrics_*.json", "conditions.*")  # with `whole_file`

log = logging.getLogger(__name__)


def prepare_folder(folder: Path) -> None:
    """Create a folder, and remove what killed evaluations left half written."""
    make_folder(folder)
    for name in WRITTEN:
        remove_partials(folder, name)


def claim_folder(
    folder: Path, name: str, digests: Mapping[str, str], samples: str | None = None
) -> None:
    """Record what is evaluated into a folder, and refuse one that holds anything else.

    An evaluation of the same by other code is replaced, with a warning.

    Args:
        folder: exists.
        name: of what is evaluated, for people.
        digests: that decide whether it is the same.
        samples: their digest, which is "store" in the config.json of a run trained on them.

    Raises:
        ConfigError: if the folder holds the evaluation of something else.
    """
    code = code_digest()
    wanted = {
        "evaluated": name,
        "digests": dict(digests),
        "samples": samples,
        CODE: code,
        TIME: datetime.now(UTC).isoformat(timespec="seconds"),
    }
    file = folder / RECORD
    has_results = any((folder / name).exists() for name in (RESULTS, TABLES))
    if file.exists() and has_results:  # an interrupted evaluation may have left the record alone
        try:
            before = json.loads(file.read_bytes())
            name_before, digests_before = before["evaluated"], dict(before["digests"])
        except (ValueError, KeyError, TypeError):
            name_before, digests_before = f"something that {file} no longer names", {}
        if digests_before != wanted["digests"]:
            changed = [key for key in digests if digests_before.get(key) != digests[key]]
            other = f"other {' and '.join(changed)} than {name} has now"
            since = f"{' and '.join(changed)} that have changed since"
            raise ConfigError(
                f"{folder} holds the evaluation of {name_before}, with "
                f"{since if name_before == name else other}; results of both would lie side by "
                f"side. {_ways_out(folder)}"
            )
        code_before = before.get(CODE, UNKNOWN_CODE)  # older versions did not record it
        if code_before != code:
            log.warning(
                "%s holds an evaluation by other code (%s, now %s): what is evaluated now replaces "
                "it, and what this command does not evaluate again stays as that code made it. For "
                "results of one code choose another --out",
                folder,
                code_before,
                code,
            )
    with whole_file(file, "w") as handle:
        json.dump(wanted, handle, indent=2)


def _ways_out(folder: Path) -> str:
    """Return what to do about a folder that holds another evaluation."""
    folder = folder if folder.name not in ("", "..") else folder.resolve()
    names = (folder.with_name(f"{folder.name}-{number}") for number in itertools.count(2))
    free = next(path for path in names if not path.exists())
    keep_both = f"To keep both, evaluate into --out {shlex.quote(str(free))}"
    if any(folder.rglob("*.pt")):  # also a run, or the folder of one
        return keep_both
    return f"{keep_both}; to replace it, remove {folder} first"


def write_metrics(folder: Path, results: Path, summary: Mapping[str, Any]) -> None:
    """Write a summary of `official_metrics.judge` as text, below the name of its result JSON."""
    with whole_file(folder / TABLES, "w") as file:
        file.write(f"{results}\n{metrics_as_text(summary)}\n")
