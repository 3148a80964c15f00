"""What one process of a run is refused or loses ends the others, too."""

import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from shared.errors import ConfigError, InterruptedWorkError
from shared.process.folder_lock import locked_folder
from shared.process.interrupts import Interrupts, StuckError
from stage2_train.data.prefetch import MicroBatches
from stage2_train.run.run_files import LOCK
from stage2_train.run.run_folder import RunFolder
from stage2_train.training.distributed import locked_for_all
from stage2_train.training.trainer import Trainer


class Processes:
    """Stands for Fabric: what the first process broadcasts is what the others get."""

    def __init__(self) -> None:
        self.global_rank = 0
        self.sent: object = None

    def broadcast(self, value: object) -> object:
        if self.global_rank == 0:
            self.sent = value
        return self.sent


def test_every_process_is_refused_where_the_first_is(tmp_path: Path) -> None:
    fabric: Any = Processes()
    folder = RunFolder(tmp_path / "run")
    with locked_folder(folder.path, LOCK):
        for rank in (0, 1):
            fabric.global_rank = rank
            refused = pytest.raises(ConfigError, match="is in use by process")
            with refused, locked_for_all(folder, fabric):
                pytest.fail("a process went on")


def test_only_the_first_process_locks_and_all_go_on(tmp_path: Path) -> None:
    fabric: Any = Processes()
    folder, entered = RunFolder(tmp_path / "run"), []
    with locked_for_all(folder, fabric):
        fabric.global_rank = 1
        with locked_for_all(folder, fabric):
            entered.append(1)
    assert entered


def hanging() -> Iterator[MicroBatches]:
    raise StuckError("nothing came within 10 s of the signal")
    yield


def stuck_trainer(processes: int) -> Any:
    trainer: Any = Trainer.__new__(Trainer)
    trainer.fabric = SimpleNamespace(world_size=processes)
    trainer.saved_at = 4
    return trainer


def test_one_of_several_processes_without_data_saves_nothing_and_says_where_the_run_resumes() -> (
    None
):
    with Interrupts() as interrupts:
        interrupts.signum = signal.SIGTERM
        with pytest.raises(InterruptedWorkError, match="resumes from step 4") as stopped:
            stuck_trainer(2)._next(hanging(), interrupts)
        assert stopped.value.signum == signal.SIGTERM
        assert stuck_trainer(1)._next(hanging(), interrupts) is None
