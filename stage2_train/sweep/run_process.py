"""One run of a sweep as a process of its own, and the few lines to read of how it goes."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from shared.process.interrupts import signal_at_parents_end
from shared.process.whole_file import whole_file
from stage2_train.run.run_files import LOG, last_row
from stage2_train.sweep.sweep_plan import FINISHED, PlannedRun, write_recipe

TRAIN_LOG = "train.log"  # what the process says, of all its starts
ERROR = "error: "
TRAINING = "stage2_train"  # the module of train-stage2


class RunProcess:
    """A process of `train-stage2`, in a session of its own: Ctrl-C in a terminal is not for it.

    Args:
        run: to train or to resume.
        folder: of the run.
        options: of `train-stage2`, store first.
        environment: of the process, besides our own.
    """

    def __init__(
        self,
        run: PlannedRun,
        folder: Path,
        options: Sequence[str],
        environment: Mapping[str, str],
    ) -> None:
        self.run, self.folder = run, folder
        self._started = time.monotonic()
        self._read_at = self._log_time()
        recipe = write_recipe(folder, run.recipe)
        store, *rest = options
        command = [sys.executable, "-m", TRAINING, store, "--out", str(folder)]
        log: IO[bytes]
        with (folder / TRAIN_LOG).open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                [*command, "--recipe", recipe, *rest],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                start_new_session=True,
                # Otherwise it would go on alone, and a sweep started again would wait for it.
                preexec_fn=signal_at_parents_end(signal.SIGTERM),
            )

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal, None while the process runs.

        A process that ended well leaves finished.json.
        """
        if self._process.returncode is not None:
            return self._process.returncode
        pid, status, usage = os.wait4(self._process.pid, os.WNOHANG)
        if pid == 0:
            return None
        self._process.returncode = code = os.waitstatus_to_exitcode(status)
        if code == 0:
            about = {
                "seconds": time.monotonic() - self._started,
                "peak_memory_mb": usage.ru_maxrss / 1024,  # of this last process; Linux counts KiB
            }
            with whole_file(self.folder / FINISHED, "w") as file:
                json.dump(about, file)
        return code

    def signal(self, signum: int) -> None:
        """Send a signal, unless the process has ended."""
        if self._process.returncode is None:
            self._process.send_signal(signum)

    def news(self) -> str | None:
        """Return step and loss in words, if they were logged since the last call."""
        changed = self._log_time()
        if changed == self._read_at:
            return None
        self._read_at = changed
        last = last_row(self.folder / LOG)
        return f"step {last['step']}, loss {float(last['loss']):.3f}"

    def reason(self) -> str:
        """Return why a process failed, as it said itself."""
        code = self._process.returncode
        if code is not None and code < 0:
            return f"ended by {signal.Signals(-code).name}"
        with (self.folder / TRAIN_LOG).open("rb") as file:
            file.seek(self._log_start)  # what it said at earlier starts is not the reason
            text = file.read().decode(errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith(ERROR)]
        return (errors or lines or [f"{ERROR}exit status {code}"])[-1].removeprefix(ERROR)

    def _log_time(self) -> int:
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / LOG).stat().st_mtime_ns
        return 0
