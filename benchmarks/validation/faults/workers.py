"""Processes that write a store and can be killed: start them, await their first row, end them."""

import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.validation.faults.replay import READY

PATIENCE_S = 120.0


class Worker:
    """A writing process.

    Args:
        command: module to run, and its arguments.
    """

    def __init__(self, command: Sequence[object]) -> None:
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", *map(str, command)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._lines: list[str] = []
        self._is_ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._lines.append(line)
            if READY in line:
                self._is_ready.set()
        self._is_ready.set()  # it ended

    def wait_until_it_writes(self) -> None:
        """Return when the worker is about to write its first row, or has ended.

        Raises:
            TimeoutError: if neither happens in `PATIENCE_S`.
        """
        if not self._is_ready.wait(PATIENCE_S):
            raise TimeoutError(f"{self.process.args} neither wrote nor ended for {PATIENCE_S:g} s")

    @property
    def is_running(self) -> bool:
        """Whether the process is still running."""
        return self.process.poll() is None

    def kill(self) -> bool:
        """Kill the process (-9); return whether it was still running."""
        was_running = self.is_running
        self.process.kill()
        self.finish()
        return was_running and self.process.returncode < 0

    def finish(self) -> tuple[int, str]:
        """Wait for the process to end; return its exit status and its stderr."""
        self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return self.process.returncode, "".join(self._lines)


def replay_command(
    source: Path, target: Path, share: str = "1/1", processes: int = 0
) -> list[object]:
    """Return the command line of a writer that needs no backbones, see `replay.replay`."""
    module = "benchmarks.validation.faults.replay"
    return [module, source, target, "--slice", share, "--processes", processes]
