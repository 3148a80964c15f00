"""What a child process does to live and die with its parent."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing.connection import wait

from shared.process.interrupts import Interrupts


def end_with_parent() -> None:
    """End this process as soon as its parent has gone, whatever it is doing.

    It may be killed at any moment and leaves nothing behind: locks of libraries, as Blosc's in
    numcodecs, have no name from now on. A spawned process would give them names that outlive it,
    of which Python warns when the parent ends.
    """
    multiprocessing.set_start_method("fork", force=True)
    threading.Thread(target=_wait_for_parent, name="end-with-parent", daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)  # the main thread may be in a read that hangs


@contextlib.contextmanager
def children_without_signals() -> Iterator[None]:
    """Leave Ctrl-C and SIGTERM to this process: children started meanwhile do not get them.

    Terminals and job schedulers send them to all processes of a group.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, Interrupts.SIGNALS)  # inherited
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
