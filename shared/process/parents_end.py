"""Processes that do not outlive the process that started them, however that dies."""

import ctypes
import sys
from functools import partial

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def signal_at_parents_end(signum: int) -> "partial[int] | None":
    """Return what a child calls to get a signal when its parent ends; None if not on Linux.

    Loads the C library now, since a child between fork and exec must not.
    """
    if sys.platform != "linux":
        return None
    return partial(ctypes.CDLL(None).prctl, PR_SET_PDEATHSIG, signum)
