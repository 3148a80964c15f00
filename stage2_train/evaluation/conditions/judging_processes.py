"""Judging beside the detection under the next condition, each condition in a process of its own.

nuscenes-devkit computes in Python, on a core, for minutes per condition of a whole split. A process
is a fork, so that it has the opened tables without reading or copying them.
"""

import gc
import multiprocessing
import os
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import tqdm

from shared.errors import DatasetError
from shared.process.cores import available_cores
from shared.process.interrupts import signal_at_parents_end
from shared.process.memory.available_memory import available_memory_bytes

MOST = 8  # keep up with detection in an eighth of the time that judging takes
WAKING_S = 1.0  # how often a wait is left to see whether a signal has come

Call = Callable[[], dict[str, Any]]


def default_processes() -> int:
    """Return how many conditions are judged at a time beside the detection; 0 is none."""
    return min(available_cores() - 1, MOST) if sys.platform == "linux" else 0


class JudgingProcesses:
    """Calls functions in processes; leaving the context ends those that still run.

    Args:
        count: how many at a time, if there is memory for them; 0 calls in this process.
        while_waiting: called about every second of a wait.
    """

    def __init__(self, count: int, while_waiting: Callable[[], object] = lambda: None) -> None:
        self._count, self._while_waiting = count, while_waiting
        self._running: deque[_JudgingProcess] = deque()
        self._results: list[dict[str, Any]] = []

    def __enter__(self) -> "JudgingProcesses":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running:
            process.kill()

    def judge(self, condition: str, call: Call, memory_bytes: int) -> None:
        """Begin a call; wait for the first of those that run where there is no room for another.

        Args:
            condition: its name, for messages.
            call: to make.
            memory_bytes: that it needs.

        Raises:
            See `results`.
        """
        if not self._count:
            self._results.append(call())
            return
        while self._running and (self._running[0].has_ended or not self._has_room(memory_bytes)):
            self._collect()
        self._running.append(_JudgingProcess(condition, call))

    def _has_room(self, memory_bytes: int) -> bool:
        return len(self._running) < self._count and available_memory_bytes() >= memory_bytes

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
        self._results.append(self._running[0].result(self._while_waiting))
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

    def result(self, while_waiting: Callable[[], object]) -> dict[str, Any]:
        while not self._answers.poll(WAKING_S):
            while_waiting()
        try:
            result, trace = self._answers.recv()
        except EOFError:
            self._process.join()
            raise DatasetError(
                f"the process that judged {self.condition} died (exit code "
                f"{self._process.exitcode}). If memory ran out (code -9): with fewer cores, as by "
                "taskset, fewer are judged at a time"
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
    gc.freeze()  # nothing of the parent is collected: its pages stay shared, CUDA is left alone
    # The devkit shows progress; bars of several processes would overwrite each other.
    tqdm.tqdm = partial(tqdm.tqdm, disable=True)  # type: ignore[misc, assignment]
    try:
        answer: tuple[Any, str] = call(), ""
    except BaseException as error:  # whatever it is, the caller of `results` gets it
        answer = error, traceback.format_exc()
    sender.send(answer)
