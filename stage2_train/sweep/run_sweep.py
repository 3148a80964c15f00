"""The runs of a sweep one after the other on every device, until all have ended."""

import logging
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from shared.errors import InterruptedWorkError, TrainingError
from shared.process.cores import available_cores
from shared.process.file_lock import NoLocksError, lock_file
from shared.process.folder_lock import locked_folder, make_folder
from shared.process.interrupts import Interrupts
from stage2_train.recipes.recipe import Recipe
from stage2_train.run.run_checkpoint import CHECKPOINT
from stage2_train.run.run_files import LOCK as TRAINING_LOCK
from stage2_train.sweep.run_process import TRAIN_LOG, RunProcess
from stage2_train.sweep.sweep_plan import FINISHED, PlannedRun, record_plan

log = logging.getLogger(__name__)

LOCK = ".sweep.lock"
POLL_S = 0.2
ENDING_S = 25.0  # for runs to save after a signal; job schedulers kill some 30 s after SIGTERM

Options = Callable[[Recipe], Sequence[str]]


class SweepRunner:
    """Starts runs, follows them and ends them.

    Args:
        folder: of the sweep; a run has a folder in it.
        runs: of the plan.
        options: returns those of `train-stage2` for a run of a recipe, store first.
        slots: environment of each process that runs at a time, besides our own.
    """

    def __init__(
        self,
        folder: Path,
        runs: Sequence[PlannedRun],
        options: Options,
        slots: Sequence[Mapping[str, str]],
    ) -> None:
        self.folder, self.runs, self.options, self.slots = folder, runs, options, slots
        self.total = len(runs)
        self.failed: dict[str, str] = {}
        self._number = {run.name: i + 1 for i, run in enumerate(runs)}
        self._pending = deque(run for run in runs if not self._is_finished(run))
        self._running: dict[int, RunProcess] = {}
        self._waiting: set[str] = set()  # runs whose folder another process still has

    @property
    def finished(self) -> int:
        """How many runs have ended well."""
        return sum(map(self._is_finished, self.runs))

    def run_all(self) -> None:
        """Return when no run is left to start and none runs.

        Raises:
            InterruptedWorkError: on Ctrl-C or SIGTERM, when the runs have saved and ended.
        """
        log.info("%d of %d runs are finished", self.finished, self.total)
        with Interrupts() as interrupts:
            try:
                while interrupts.signum is None and self._has_work():
                    self._start()
                    time.sleep(POLL_S)
                    self._follow()
                if interrupts.signum is not None:
                    self._end(interrupts.signum)
            finally:  # also at the second Ctrl-C
                for process in self._running.values():
                    process.signal(signal.SIGKILL)

    def _has_work(self) -> bool:
        return bool(self._pending or self._running)

    def _start(self) -> None:
        """Start a run on every device that is free."""
        for slot, environment in enumerate(self.slots):
            for _ in range(len(self._pending)):
                if slot in self._running:
                    break
                run = self._pending.popleft()
                folder = self.folder / run.name
                make_folder(folder)
                if self._is_in_use(folder):
                    self._pending.append(run)
                    continue
                self._say(run.name, "resumes" if (folder / CHECKPOINT).exists() else "starts")
                self._running[slot] = RunProcess(run, folder, self.options(run.recipe), environment)

    def _follow(self) -> None:
        """Report steps and ends of the runs."""
        for slot, process in list(self._running.items()):
            code, news = process.poll(), process.news()
            if news:
                self._say(process.run.name, news)
            if code is None:
                continue
            del self._running[slot]
            self._ended(process, code)

    def _ended(self, process: RunProcess, code: int) -> None:
        """Report the end of a run, with its exit status."""
        name = process.run.name
        if code == 0:
            self._say(name, "finished")
        else:
            self.failed[name] = process.reason()
            self._say(name, f"failed: {process.reason()}")

    def _end(self, signum: int) -> None:
        """Let the runs save and end; see `run_all`."""
        log.info("ending %d runs", len(self._running))
        for process in self._running.values():
            process.signal(signal.SIGTERM)
        deadline = time.monotonic() + ENDING_S
        while self._running and time.monotonic() < deadline:
            self._running = {
                slot: process for slot, process in self._running.items() if process.poll() is None
            }
            time.sleep(POLL_S)
        late = [process.run.name for process in self._running.values()]
        saved = f"; {', '.join(late)} did not end in time, and resumes from before" if late else ""
        raise InterruptedWorkError(
            f"{self.finished} of {self.total} runs in {self.folder} are finished, the others "
            f"have saved what they trained{saved}; run the same command again to continue",
            signum,
        )

    def _is_finished(self, run: PlannedRun) -> bool:
        return (self.folder / run.name / FINISHED).exists()

    def _is_in_use(self, folder: Path) -> bool:
        """Return whether a process still trains in a run's folder, left by a killed sweep."""
        lock = folder / TRAINING_LOCK
        if not lock.exists():
            return False
        try:
            file = lock_file(lock, is_patient=False)
        except NoLocksError:
            return False
        if file is None:
            if folder.name not in self._waiting:
                log.info("%s: waiting for another process that trains in it", folder)
                self._waiting.add(folder.name)
            return True
        with file:
            lock.unlink()
        return False

    def _say(self, name: str, words: str) -> None:
        log.info("[%d/%d] %s: %s", self._number[name], self.total, name, words)


def run_sweep(
    folder: Path,
    runs: Sequence[PlannedRun],
    inputs: Mapping[str, Any],
    options: Options,
    slots: Sequence[Mapping[str, str]],
) -> None:
    """Train all runs of a sweep, or those that are left.

    Args:
        folder: of the sweep.
        runs: of the plan.
        inputs: see `record_plan`.
        options: see `SweepRunner`.
        slots: see `SweepRunner`.

    Raises:
        ConfigError: if the folder holds a different sweep, or another process sweeps in it.
        TrainingError: if runs failed; the others have ended.
        InterruptedWorkError: see `SweepRunner.run_all`.
    """
    with locked_folder(folder, LOCK):
        record_plan(folder, runs, inputs)
        runner = SweepRunner(folder, runs, options, slots)
        runner.run_all()
    if runner.failed:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in runner.failed.items())
        raise TrainingError(
            f"{len(runner.failed)} of {len(runs)} runs failed, the others are finished. {reasons} "
            f"({TRAIN_LOG} in each run's folder says more). The same command tries them again"
        )


def device_slots(jobs: int | None, devices: Sequence[str]) -> list[dict[str, str]]:
    """Return the environment of each process that runs at a time.

    Args:
        jobs: how many at a time; None is one per device, or one without any.
        devices: names of GPUs as CUDA_VISIBLE_DEVICES has them.
    """
    count = jobs or len(devices) or 1
    if devices:
        return [{"CUDA_VISIBLE_DEVICES": devices[i % len(devices)]} for i in range(count)]
    if count == 1 or "OMP_NUM_THREADS" in os.environ:
        return [{} for _ in range(count)]
    threads = max(1, available_cores() // count)
    return [{"OMP_NUM_THREADS": str(threads)} for _ in range(count)]
