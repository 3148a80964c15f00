"""What a run says about its steps: log.csv, timing.csv and TensorBoard.

log.csv holds what the seed and the step decide, so that a resumed run writes the very same file;
timing.csv holds what the machine decides. TensorBoard shows both, step by step.
"""

from collections.abc import Mapping

from torch.utils.tensorboard import SummaryWriter

from stage2_train.run.run_folder import RunFolder

LOG = "log.csv"
TIMING = "timing.csv"
TENSORBOARD = "tensorboard"


class TrainingLog:
    """The log of a run, kept by one of its processes.

    Args:
        folder: of the run.
        step: steps taken so far; what the folder says of later ones is dropped.
    """

    def __init__(self, folder: RunFolder, step: int) -> None:
        self._folder = folder
        self._rows: dict[str, list[dict[str, float]]] = {LOG: [], TIMING: []}
        self._board = SummaryWriter(str(folder.path / TENSORBOARD), purge_step=step + 1)

    def add(self, step: int, found: Mapping[str, float], timing: Mapping[str, float]) -> None:
        """Take the scalars of the step that ended, counted from 1."""
        for file, scalars in ((LOG, found), (TIMING, timing)):
            self._rows[file].append({"step": step, **scalars})
            for name, value in scalars.items():
                self._board.add_scalar(name, value, step)

    def write(self) -> None:
        """Bring everything to disk."""
        for file, rows in self._rows.items():
            if rows:
                self._folder.log(file, rows)
                rows.clear()
        self._board.flush()

    def close(self) -> None:
        """Write what is left, also of a run that fails: there it says how."""
        self.write()
        self._board.close()
