"""What a run records of its steps: log.csv, timing.csv and TensorBoard.

log.csv holds what depends on the seed and the step, so that a resumed run writes the same file;
timing.csv holds what depends on the machine. TensorBoard shows both.
"""

from collections.abc import Mapping

from stage2_train.run.event_file import EventFile
from stage2_train.run.run_folder import RunFolder

LOG = "log.csv"
TIMING = "timing.csv"
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
        self._rows: dict[str, list[dict[str, float]]] = {LOG: [], TIMING: []}
        with folder.writing():
            self._board = EventFile(folder.path / TENSORBOARD, step + 1)

    def add(self, step: int, scalars: Mapping[str, float], timing: Mapping[str, float]) -> None:
        """Add the scalars of a finished step, counted from 1."""
        for file, values in ((LOG, scalars), (TIMING, timing)):
            self._rows[file].append({"step": step, **values})
            with self._folder.writing():
                for name, value in values.items():
                    self._board.add(name, value, step)

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
