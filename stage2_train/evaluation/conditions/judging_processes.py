"""Judging beside the detection under the next condition, each condition in a process of its own.

nuscenes-devkit computes in Python, on a core, for a minute or more per condition of a whole split.
A process is a fork, so that it has the opened tables without reading or copying them.
"""

import gc
import multiprocessing
import os
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from shared.errors import DatasetError
from shared.process.parents_end import signal_at_parents_end
from stage2_train.data.loader import available_cores

MOST = 4  # keep up with detection in a quarter of the time that judging takes
WAKING_S = 1.0  # how often a wait is left to see whether a signal has come

Call = Callable[[], dict[str, Any]]


def default_processes() -> int:
    """Return how many conditions are judged at a time beside the detection; 0 is none."""
    return min(available_cores() - 1, MOST) if sys.platform == "linux" else 0


class JudgingProcesses:
    """Calls functions in processes; leaving the context ends those that still run.

    Args:
        count: how many at a time, which bounds their memory; 0 calls in this process.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._running: deque[_JudgingProcess] = deque()
        self._results: list[dict[str, Any]] = []

    def __enter__(self) -> "JudgingProcesses":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running:
            process.kill()

    def judge(self, condition: str, call: Call) -> None:
        """Begin a call; wait for the first of those that run if they are enough.

        Args:
            condition: its name, for messages.
            call: to make.

        Raises:
            See `results`.
        """
        if not self._count:
            self._results.append(call())
            return
        while len(self._running) >= self._count or (self._running and self._running[0].has_ended):
            self._collect()
        self._running.append(_JudgingProcess(condition, call))

    def results(self) -> list[dict[str, Any]]:
        """Wait for all calls; return their results in the order in which they were begun.

        Raises:
            DatasetError: if a process died.
            Exception: whatever a call raised.
        """
        while self._running:
            self._collect()
        return self._results

    def _collect(self) -> None:
        self._results.append(self._running[0].result())
        self._running.popleft()


class _JudgingProcess:
    def __init__(self, condition: str, call: Call) -> None:
        self.condition = condition
        context = multiprocessing.get_context("fork")
        self._answers, sender = context.Pipe(duplex=False)
        self._process = context.Process(
            target=_answer, args=(call, sender, os.getpid()), daemon=True
        )
        self._process.start()
        sender.close()  # so that the end of the process is the end of its answers

    @property
    def has_ended(self) -> bool:
        return self._answers.poll()

    def result(self) -> dict[str, Any]:
        while not self._answers.poll(WAKING_S):
            pass
        try:
            result, trace = self._answers.recv()
        except EOFError:
            self._process.join()
            raise DatasetError(
                f"the process that judged {self.condition} died (exit code "
                f"{self._process.exitcode}). If memory ran out (code -9): with fewer cores, as by "
                "taskset, fewer conditions are judged at a time, with a single core none beside "
                "the detection"
            ) from None
        self._process.join()
        if isinstance(result, BaseException):
            result.add_note(f"In the process that judged {self.condition}:\n{trace}")
            raise result
        answer: dict[str, Any] = result
        return answer

    def kill(self) -> None:
        self._process.kill()
        self._process.join()


def _answer(call: Call, sender: Connection, parent: int) -> None:
    """Make a call in a fork, and send what it returns or raises."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which kills this one
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with_parent = signal_at_parents_end(signal.SIGKILL)
    if end_with_parent is not None:
        end_with_parent()
    if os.getppid() != parent:
        return
    gc.freeze()  # the parent's objects stay shared with it, and its CUDA tensors alone
    try:
        answer: tuple[Any, str] = call(), ""
    except BaseException as error:  # whatever it is, the caller of `results` gets it
        answer = error, traceback.format_exc()
    sender.send(answer)
