"""Ctrl-C and SIGTERM as a flag: long work stops between two pieces and says how to resume.

And processes that do not outlive the process that started them, however that dies.
"""

import contextlib
import ctypes
import signal
import sys
from collections.abc import Iterator
from functools import partial
from types import FrameType

PATIENCE_S = 10.0  # of a wait after a signal; job schedulers kill some 30 s after SIGTERM
PR_SET_PDEATHSIG = 1  # linux/prctl.h


class StuckError(Exception):
    """A wait that did not end after a signal."""


class Interrupts:
    """While entered, the first signal is only noted; the second raises KeyboardInterrupt.

    `signum` is the signal received, or None.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.signum: int | None = None
        self._is_waiting = False

    def __enter__(self) -> "Interrupts":
        self._before = {
            number: signal.getsignal(number) for number in (*self.SIGNALS, signal.SIGALRM)
        }
        for number in self.SIGNALS:
            signal.signal(number, self._note)
        signal.signal(signal.SIGALRM, self._give_up)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Wait for others in this block: after a signal, for at most `PATIENCE_S`.

        Raises:
            StuckError: if the block takes longer.
        """
        self._is_waiting = True
        if self.signum is not None:
            signal.setitimer(signal.ITIMER_REAL, PATIENCE_S)
        try:
            yield
        finally:
            self._is_waiting = False
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _note(self, signum: int, _: FrameType | None) -> None:
        if self.signum is not None:
            raise KeyboardInterrupt
        self.signum = signum
        if self._is_waiting:
            signal.setitimer(signal.ITIMER_REAL, PATIENCE_S)

    def _give_up(self, *_: object) -> None:
        if self._is_waiting:
            raise StuckError(f"nothing came within {PATIENCE_S:g} s of the signal")


def signal_at_parents_end(signum: int) -> "partial[int] | None":
    """Return what a child calls to get a signal when its parent ends; None if not on Linux.

    Loads the C library now, since a child between fork and exec must not.
    """
    if sys.platform != "linux":
        return None
    return partial(ctypes.CDLL(None).prctl, PR_SET_PDEATHSIG, signum)
