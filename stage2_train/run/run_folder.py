"""What a training run writes to disk: its config, its log, and checkpoints, each of them whole."""

import contextlib
import csv
import itertools
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from shared.errors import CheckpointError, ConfigError, TrainingError
from shared.process.folder_lock import locked_folder, make_folder
from shared.process.system_faults import explain_system_fault
from shared.process.whole_file import remove_partials, whole_file
from stage2_train.run.run_checkpoint import CHECKPOINT, read_resumable
from stage2_train.run.run_files import BEST_SCORES, CONFIG, LOCK, OVERRIDES, rows_before

BEST = "best.pt"
MEANINGS = {  # of digests in the config
    "starting weights": " (another --checkpoint, or changed code of the model)",
    "store": " (other samples, sensor files, weights, variants or number format)",
}
COPIED_CHARACTERS = 2**20  # of a log, at a time
LogRow = Mapping[str, float | str | None]
WRITTEN = ("*.pt", "*.csv", CONFIG, "freezing.json", BEST_SCORES)  # with `whole_file`


class RunFolder:
    """The folder of one run.

    Args:
        path: created if missing.

    Raises:
        ConfigError: if it is a file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._logged: dict[str, tuple[list[str], int]] = {}  # by log: columns, last step
        make_folder(path)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs out while entered; remove what killed ones left half written.

        Raises:
            ConfigError: if another process trains in this folder.
        """
        with locked_folder(self.path, LOCK):
            for name in WRITTEN:
                remove_partials(self.path, name)
            yield

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Write something of the run in this block.

        Raises:
            TrainingError: if the disk is full, for example; it says from where the run resumes.
        """
        try:
            yield
        except OSError as error:
            error.filename = error.filename or str(self.path)
            reason = explain_system_fault(error)
            if reason is None:
                raise
            is_saved = (self.path / CHECKPOINT).exists()
            resumes = f"resumes from {self.path / CHECKPOINT}, which is whole" if is_saved else ""
            raise TrainingError(
                f"{reason}. The run {resumes or 'has saved nothing yet and starts over'}"
            ) from error

    def start(self, config: Mapping[str, Any], *, writes: bool = True) -> None:
        """Record what the run is made of, or check that it has not changed since.

        Args:
            config: of the run.
            writes: whether this process is the one that writes.

        Raises:
            ConfigError: if the folder holds a run with a different config, or a damaged one.
            TrainingError: if it cannot be written.
        """
        file = self.path / CONFIG
        text = json.dumps(config, indent=2, sort_keys=True)
        if not file.exists():
            if writes:
                self.write(CONFIG, text)
            return
        before = self._config(file)
        wanted = json.loads(text)
        changed = [
            difference
            for key in sorted(before.keys() | wanted.keys())
            if key != OVERRIDES  # their effect is in the recipe
            for difference in _differences(key, before.get(key), wanted.get(key))
        ]
        if changed:
            raise ConfigError(
                f"{self.path} holds a run with a different {', '.join(changed)} (see {file}); "
                "choose another --out, or repeat what the run was started with"
            )

    def _config(self, file: Path) -> dict[str, Any]:
        try:
            config = json.loads(file.read_bytes())
        except ValueError as error:
            config = error
        if not isinstance(config, dict):
            raise ConfigError(
                f"{file} is damaged: expected a JSON object, got {config!s:.80}. It says what the "
                "run is made of, without which resuming it is not safe; restore it from a backup, "
                "or choose another --out (--checkpoint takes this run's weights as a start)"
            )
        return config

    def write(self, name: str, text: str) -> None:
        """Write a text file of the run, atomically."""
        with self.writing(), whole_file(self.path / name, "w") as handle:
            handle.write(text)

    def save(self, checkpoint: Mapping[str, Any], *, is_best: bool, keep_last: int) -> None:
        """Write a checkpoint to resume from and to keep; a kill leaves the old or the new ones.

        Args:
            checkpoint: with `step`.
            is_best: whether it replaces the best one.
            keep_last: checkpoints to keep, this one included.
        """
        if is_best:
            self._save(BEST, checkpoint)
        if keep_last > 1:
            self._save(_step_checkpoint(checkpoint["step"]), checkpoint)
        self.save_progress(checkpoint)  # last: a run killed before this repeats the others
        steps = sorted(step for step in self._saved_steps() if step <= checkpoint["step"])
        for step in steps[:-keep_last]:
            (self.path / _step_checkpoint(step)).unlink()

    def save_progress(self, checkpoint: Mapping[str, Any]) -> None:
        """Replace the checkpoint that the run resumes from, and no other."""
        self._save(CHECKPOINT, checkpoint)

    def load(self) -> dict[str, Any] | None:
        """Return the run's checkpoint, or None if there is none yet.

        Raises:
            CheckpointError: if it is damaged, or no checkpoint to resume from.
        """
        file = self.path / CHECKPOINT
        if not file.exists():
            return None
        try:
            return read_resumable(file)
        except CheckpointError as error:
            kept = ", ".join(path.name for path in sorted(self.path.glob(_step_checkpoint("*"))))
            raise CheckpointError(
                f"the run cannot be resumed: {error}. "
                + (f"To go on from an earlier one, copy it there: {kept}" if kept else "")
                + ("" if kept else "No earlier checkpoint is kept; choose another --out")
            ) from error

    def log(self, name: str, rows: Sequence[LogRow]) -> None:
        """Append rows to a CSV file; rows that a resumed run repeats are dropped first.

        The file is replaced as a whole. What it holds is copied unless these are the first rows of
        this process, repeat some or have new columns: reading 150,000 steps takes 5 s.

        Args:
            name: of the file.
            rows: with `step`, in order; None leaves a cell empty.
        """
        file, first = self.path / name, _step_of(rows[0])
        columns, last = self._logged.get(name, ([], 0))
        is_known = {key for row in rows for key in row} <= {*columns}
        with self.writing(), whole_file(file, "w") as handle:
            if is_known and first > last and file.exists():
                with file.open(newline="") as before:
                    shutil.copyfileobj(before, handle, COPIED_CHARACTERS)
                writer = csv.DictWriter(handle, columns)
            else:
                earlier = rows_before(first, file)
                start = list(itertools.islice(earlier, 1))
                columns = list(dict.fromkeys(key for row in (*start, *rows) for key in row))
                writer = csv.DictWriter(handle, columns)
                writer.writeheader()
                writer.writerows(itertools.chain(start, earlier))
            writer.writerows(rows)
        self._logged[name] = columns, _step_of(rows[-1])

    def _save(self, name: str, checkpoint: Mapping[str, Any]) -> None:
        with self.writing(), whole_file(self.path / name) as file:
            torch.save(dict(checkpoint), file)

    def _saved_steps(self) -> Iterator[int]:
        for file in self.path.glob(_step_checkpoint("*")):
            step = file.stem.rpartition("_")[2]
            if step.isdecimal() and file.name == _step_checkpoint(step):  # no copy by a user
                yield int(step)


def _differences(name: str, before: Any, now: Any) -> list[str]:
    """Return what differs between two values of a config: of the recipe, its fields."""
    if before == now:
        return []
    if name != "recipe" or not isinstance(before, dict) or not isinstance(now, dict):
        return [name + MEANINGS.get(name, "")]
    fields = [field for field in now | before if before.get(field) != now.get(field)]
    return [f"{name}.{field} ({before.get(field)}, now {now.get(field)})" for field in fields]


def _step_of(row: LogRow) -> int:
    step = row["step"]
    assert step is not None
    return int(step)


def _step_checkpoint(step: int | str) -> str:
    """Return the file name of the checkpoint kept for a step."""
    return f"checkpoint_step_{step}.pt"
