"""A command in processes of their own that begin at once, as forks of one that has imported it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.child_processes import PATIENCE_S, REPOSITORY

POLL_S = 0.01

# Forks a process for each line, which says its arguments, more of its environment and the file for
# what it says; prints the number of the process, then how it ended.
SERVER = """
import gc, importlib, json, os, sys
gc.disable()
command, *_ = [importlib.import_module(name) for name in sys.argv[1:]]
gc.enable()
for line in sys.stdin:
    arguments, environment, log = json.loads(line)
    child = os.fork()
    if not child:
        os.setsid()
        os.environ.update(environment)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream.fileno())
        os._exit(command.main(arguments))
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class ForkedCommand:
    """Runs a command again and again, a process at a time, each with a session of its own.

    Args:
        server: runs `SERVER`.
    """

    def __init__(self, server: "subprocess.Popen[str]") -> None:
        self._server = server
        self._process: int | None = None

    def start(self, arguments: Sequence[object], log: Path, **environment: str) -> None:
        """Start a process.

        Args:
            arguments: of the command.
            log: gets what the process says.
            environment: of the process, besides our own.
        """
        assert self._server.stdin is not None
        line = json.dumps([[*map(str, arguments)], environment, str(log)])
        self._server.stdin.write(f"{line}\n")
        self._server.stdin.flush()
        self._process = self._number()

    def is_running(self) -> bool:
        """Return whether the process has not ended."""
        return Path(f"/proc/{self._process}").exists()

    def kill(self) -> None:
        """Kill the process and what it has started, unless it has been waited for."""
        if self._process is not None:
            with suppress(ProcessLookupError):  # it has ended
                os.killpg(self._process, signal.SIGKILL)

    def wait(self) -> int:
        """Return the exit status of the process once it has ended, negative for a signal."""
        deadline = time.monotonic() + PATIENCE_S
        while self.is_running():
            assert time.monotonic() < deadline, f"process {self._process} does not end"
            time.sleep(POLL_S)
        self._process = None
        return self._number()

    def _number(self) -> int:
        assert self._server.stdout is not None
        return int(self._server.stdout.readline())


@contextmanager
def forked(command: str, *modules: str) -> Iterator[ForkedCommand]:
    """Start a server.

    Args:
        command: module whose `main` is called.
        modules: what it imports only once there is work.
    """
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, command, *modules],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        started = ForkedCommand(server)
        try:
            yield started
        finally:
            started.kill()
