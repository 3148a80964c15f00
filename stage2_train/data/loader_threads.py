"""Threads that a process does not wait for when it ends.

`ThreadPoolExecutor` joins its threads when it is closed and once more when Python ends: a thread
that waits for a network disk which has gone then keeps a process alive that was told to stop.
"""

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

CLOSING_S = 5.0  # how long `close` waits for what the threads are just doing

_Result = TypeVar("_Result")


class LoaderThreads:
    """Calls functions in threads, in the order in which they are submitted.

    Args:
        count: of threads.
    """

    def __init__(self, count: int) -> None:
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]
        self._calls = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"loader_{i}", daemon=True)
            for i in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, call: Callable[[], _Result]) -> Future[_Result]:
        """Queue a call; the future has what it returns or raises."""
        future: Future[_Result] = Future()
        self._calls.put((future, call))
        return future

    def close(self) -> None:
        """Cancel what is queued and end the threads; leave behind those that hang."""
        self.cancel()
        deadline = time.monotonic() + CLOSING_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def cancel(self) -> None:
        """Cancel what is queued; threads end when they are done with their current call."""
        with contextlib.suppress(queue.Empty):
            while item := self._calls.get_nowait():
                item[0].cancel()
        for _ in self._threads:
            self._calls.put(None)

    def _work(self) -> None:
        while item := self._calls.get():
            future, call = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except BaseException as error:  # whatever it is, the caller of `result` gets it
                future.set_exception(error)
            del item, future, call  # else an idle thread would keep its last batch in memory
