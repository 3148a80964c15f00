"""What a training run leaves on disk: its config, its log, and checkpoints that are never torn."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from shared.checkpoint.strict_loading import read_checkpoint
from shared.errors import CheckpointError, ConfigError
from shared.process.whole_file import whole_file

CHECKPOINT = "checkpoint.pt"
BEST = "best.pt"
CONFIG = "config.json"

# What a checkpoint of ours says: weights of the trained part, its preset, steps taken, digest of
# the features it was trained on, digests of the frozen parts they came from, and the checkpoint
# that training started from. What else is in it is there to go on with: `ema`, `optimizer`, ...
OURS = ("state_dict", "preset", "aqr", "step", "features", "backbones", "started_from")


class RunFolder:
    """The folder of one run.

    Args:
        path: created if missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def start(self, config: Mapping[str, Any], *, writes: bool = True) -> None:
        """Write what the run is made of, or check that it has not changed since.

        Args:
            config: of the run.
            writes: whether this process is the one that writes.

        Raises:
            ConfigError: if the folder holds a run of another config.
        """
        file = self.path / CONFIG
        text = json.dumps(config, indent=2, sort_keys=True)
        if not file.exists():
            if writes:
                self.write(CONFIG, text)
            return
        before = json.loads(file.read_text())
        wanted = json.loads(text)
        changed = [key for key in sorted(before | wanted) if before.get(key) != wanted.get(key)]
        if changed:
            raise ConfigError(
                f"{self.path} holds a run with another {', '.join(changed)} (see {file}); choose "
                "another --out, or run with what it was started with"
            )

    def write(self, name: str, text: str) -> None:
        """Write a text file of the run, whole."""
        with whole_file(self.path / name, "w") as handle:
            handle.write(text)

    def save(self, checkpoint: Mapping[str, Any], *, is_best: bool, keep_last: int) -> None:
        """Write a checkpoint to go on from and to keep; a kill leaves the old ones or the new ones.

        Args:
            checkpoint: with `step`.
            is_best: whether it takes the place of the best one.
            keep_last: checkpoints that stay, this one among them.
        """
        if is_best:
            self._save(BEST, checkpoint)
        if keep_last > 1:
            self._save(_earlier(checkpoint["step"]), checkpoint)
        self.save_progress(checkpoint)  # last: a run killed before it repeats the others
        steps = sorted(step for step in self._earlier_steps() if step <= checkpoint["step"])
        for step in steps[:-keep_last]:
            (self.path / _earlier(step)).unlink()

    def save_progress(self, checkpoint: Mapping[str, Any]) -> None:
        """Replace the checkpoint that the run goes on from, and no other."""
        self._save(CHECKPOINT, checkpoint)

    def load(self) -> dict[str, Any] | None:
        """Return the run's checkpoint, or None if there is none yet."""
        file = self.path / CHECKPOINT
        return read_checkpoint(file) if file.exists() else None

    def log(self, name: str, rows: Sequence[Mapping[str, float]]) -> None:
        """Append rows to a CSV, first dropping those that a resumed run repeats."""
        file = self.path / name
        kept: list[Mapping[str, Any]] = []
        if file.exists():
            with file.open(newline="") as handle:
                first = int(rows[0]["step"])
                kept = [row for row in csv.DictReader(handle) if int(row["step"]) < first]
        rows_out = [*kept, *rows]
        columns = list(dict.fromkeys(key for row in rows_out for key in row))
        with whole_file(file, "w") as handle:
            writer = csv.DictWriter(handle, columns)
            writer.writeheader()
            writer.writerows(rows_out)

    def _save(self, name: str, checkpoint: Mapping[str, Any]) -> None:
        with whole_file(self.path / name) as file:
            torch.save(dict(checkpoint), file)

    def _earlier_steps(self) -> Iterator[int]:
        for file in self.path.glob(_earlier("*")):
            yield int(file.stem.rpartition("_")[2])


def _earlier(step: int | str) -> str:
    """Return the name of the checkpoint that is kept of a step."""
    return f"checkpoint_step_{step}.pt"


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


def trained_weights(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return the weights to detect with: the average, in a run that keeps one."""
    averaged: dict[str, Any] | None = checkpoint.get("ema")
    last: dict[str, Any] = checkpoint["state_dict"]
    return last if averaged is None else averaged


def is_run_checkpoint(path: Path) -> bool:
    """Whether `path` is a run folder, or a checkpoint file that `train-stage2` wrote."""
    return path.is_dir() or "features" in read_checkpoint(path)
