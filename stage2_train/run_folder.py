"""What a training run leaves on disk: its config, its log, and checkpoints that are never torn."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from shared.checkpoints import read_checkpoint
from shared.errors import CheckpointError, ConfigError
from shared.whole_file import whole_file

CHECKPOINT = "checkpoint.pt"
CONFIG = "config.json"
LOG = "log.csv"

# What a checkpoint of ours says: weights of the trained part, its preset, steps taken, digest of
# the features it was trained on, digests of the frozen parts they came from, and the checkpoint
# that training started from.
OURS = ("state_dict", "preset", "step", "features", "backbones", "started_from")


class RunFolder:
    """The folder of one run.

    Args:
        path: created if missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def start(self, config: Mapping[str, Any]) -> None:
        """Write what the run is made of, or check that it has not changed since.

        Raises:
            ConfigError: if the folder holds a run of another config.
        """
        file = self.path / CONFIG
        text = json.dumps(config, indent=2, sort_keys=True)
        if not file.exists():
            with whole_file(file, "w") as handle:
                handle.write(text)
            return
        before = json.loads(file.read_text())
        wanted = json.loads(text)
        changed = [key for key in sorted(before | wanted) if before.get(key) != wanted.get(key)]
        if changed:
            raise ConfigError(
                f"{self.path} holds a run with another {', '.join(changed)} (see {file}); choose "
                "another --out, or run with what it was started with"
            )

    def save(self, checkpoint: Mapping[str, Any]) -> None:
        """Replace the run's checkpoint; a kill leaves the old one or the new one."""
        with whole_file(self.path / CHECKPOINT) as file:
            torch.save(dict(checkpoint), file)

    def load(self) -> dict[str, Any] | None:
        """Return the run's checkpoint, or None if there is none yet."""
        file = self.path / CHECKPOINT
        return read_checkpoint(file) if file.exists() else None

    def log(self, rows: list[dict[str, float]], *, after_step: int) -> None:
        """Append rows to the CSV, first dropping those a resumed run repeats."""
        file = self.path / LOG
        kept: list[dict[str, Any]] = []
        if file.exists():
            with file.open(newline="") as handle:
                kept = [row for row in csv.DictReader(handle) if int(row["step"]) <= after_step]
        rows_out = [*kept, *rows]
        if not rows_out:
            return
        columns = list(dict.fromkeys(key for row in rows_out for key in row))
        with whole_file(file, "w") as handle:
            writer = csv.DictWriter(handle, columns)
            writer.writeheader()
            writer.writerows(rows_out)


def read_run_checkpoint(path: Path) -> dict[str, Any]:
    """Return the checkpoint of a run folder, or a checkpoint file of `train-stage2`.

    Raises:
        CheckpointError: if it is none of ours.
    """
    file = path / CHECKPOINT if path.is_dir() else path
    content = read_checkpoint(file)
    missing = [key for key in OURS if key not in content]
    if missing:
        raise CheckpointError(
            f"{file} has no {', '.join(missing)}; expected a checkpoint that train-stage2 wrote"
        )
    return content


def is_run_checkpoint(path: Path) -> bool:
    """Whether `path` is a run folder, or a checkpoint file that `train-stage2` wrote."""
    return path.is_dir() or "features" in read_checkpoint(path)
