"""Processes beside the one that computes, one task at a time each.

Little may be sent to a process when it starts, so that all start side by side: `multiprocessing`
waits, while it sends more than a pipe holds, until the process has imported everything.
"""

import os
import pickle
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any, TypeVar

from shared.process.child_process import children_without_signals, end_with_parent
from shared.process.memory.freed_memory import keep_freed_memory

# There are more processes than cores, and the thread that queues work for a GPU comes first: at
# this niceness it has nine times the weight of one of them (`benchmarks.speed.queueing`).
NICENESS = 10
POLL_S = 0.001  # between looks at a process that was killed
# What to say of a process after a `BrokenProcessPool`.
DIED = (
    "died: it printed why, it was killed, or memory ran out. Finished shards are kept. Run the "
    "same command again, with fewer --workers if it happens again"
)

Result = TypeVar("Result")


class ProcessPool:
    """A pool of processes, which end with this one.

    A process is started with the task for which none is free.

    Args:
        workers: processes.
        prepare: called in each of them when it starts.
        sent: what `prepare` is called with.
    """

    def __init__(self, workers: int, prepare: Callable[..., None], *sent: Any) -> None:
        self._workers, self._context = workers, _KnownProcesses()
        self._executor = ProcessPoolExecutor(
            workers, mp_context=self._context, initializer=_begin, initargs=(prepare, *sent)
        )

    def start(self) -> None:
        """Start all processes now."""
        for _ in range(self._workers):
            self.submit(_nothing)

    def submit(self, task: Callable[..., Result], *given: Any) -> "Future[Result]":
        """Begin a task; the error of a process is raised by its result."""
        resource_tracker.ensure_running()  # else the first child starts it, which lifts the mask
        with children_without_signals():
            return self._executor.submit(_do, task, *given)

    def close(self) -> None:
        """End the processes, whatever they do."""
        self._executor.shutdown(wait=False, cancel_futures=True)  # from now on none is started
        processes = [process for process in self._context.processes if process.pid is not None]
        for process in processes:
            process.kill()
        for process in processes:
            while process.is_alive():  # as far as we know: the executor's thread waits for it, too
                process.join(POLL_S)
                time.sleep(POLL_S)


class _KnownProcesses(SpawnContext):  # a fork would copy CUDA's state
    """Knows the processes that were started in it."""

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[SpawnProcess] = []

    def Process(self, *args: Any, **options: Any) -> SpawnProcess:  # type: ignore[override]  # noqa: N802  its name
        """Return a new process, which is not started yet."""
        process = SpawnProcess(*args, **options)
        self.processes.append(process)
        return process


def _do(task: Callable[..., Result], *given: Any) -> Result:
    """Do a task; an error that cannot be sent, as of a class in a user's file, becomes another."""
    try:
        return task(*given)
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            raise RuntimeError(f"{type(error).__name__}: {error}") from error
        raise


def _nothing() -> None:
    """Take the time that a task takes at least."""


def _begin(prepare: Callable[..., None], *sent: Any) -> None:
    end_with_parent()
    os.nice(NICENESS)
    keep_freed_memory()
    prepare(*sent)
