"""What a run records of its steps: log.csv, timing.csv, validation.csv and TensorBoard.

log.csv holds what depends on the seed and the step, so that a resumed run writes the same file;
timing.csv holds what depends on the machine; validation.csv has a row for every validation.
TensorBoard shows all of them.
"""

import contextlib
from collections.abc import Iterator, Mapping

from shared.errors import TrainingError
from stage2_train.run.event_file import EventFile
from stage2_train.run.run_files import LOG, TIMING, VALIDATION
from stage2_train.run.run_folder import RunFolder

TENSORBOARD = "tensorboard"


class TrainingLog:
    """The log of a run, written by its first process.

    Args:
        folder: of the run.
        step: steps taken so far; TensorBoard drops what the folder holds of later ones.

    Raises:
        TrainingError: here and in every method, if the disk is full, for example.
    """

    def __init__(self, folder: RunFolder, step: int) -> None:
        self._folder = folder
        self._rows: dict[str, list[dict[str, float | None]]] = {LOG: [], TIMING: [], VALIDATION: []}
        with folder.writing():
            self._board = EventFile(folder.path / TENSORBOARD, step + 1)

    def add(
        self, step: int, scalars: Mapping[str, float], timing: Mapping[str, float | None]
    ) -> None:
        """Add the scalars of a finished step, counted from 1; None is what was not measured."""
        self._add(LOG, step, scalars)
        self._add(TIMING, step, timing)

    def add_validation(self, step: int, scores: Mapping[str, float | None]) -> None:
        """Add the scores of a step; None is what was not measured."""
        self._add(VALIDATION, step, scores, prefix="validation/")

    def _add(
        self, file: str, step: int, values: Mapping[str, float | None], prefix: str = ""
    ) -> None:
        self._rows[file].append({"step": step, **values})
        with self._folder.writing():
            for name, value in values.items():
                if value is not None:
                    self._board.add(prefix + name, value, step)

    def write(self) -> None:
        """Flush everything to disk."""
        for file, rows in self._rows.items():
            if rows:
                self._folder.log(file, rows)
                rows.clear()
        with self._folder.writing():
            self._board.flush()

    def close(self) -> None:
        """Write the rest, also of a failing run, where it shows how the run failed."""
        self.write()
        with self._folder.writing():
            self._board.close()


@contextlib.contextmanager
def closed_at_end(log: TrainingLog | None) -> Iterator[None]:
    """Close a log at the end; a disk that is full then does not hide why a run failed."""
    try:
        yield
    except BaseException:
        if log is not None:
            with contextlib.suppress(TrainingError):
                log.close()
        raise
    if log is not None:
        log.close()
