"""Memory that processes share, in slots of equal size.

It is anonymous (`memfd_create`, Linux), so nothing is left behind whatever ends the processes, and
/dev/shm and its size do not matter. Pages take memory once they are written to.
"""

import mmap
import os
from collections.abc import Callable
from multiprocessing.reduction import DupFd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import ConfigError


class SharedSlots:
    """Slots of so many bytes; sent to a process when that is spawned.

    Args:
        slot_bytes: of each slot, at least 1.
        count: of slots.

    Raises:
        ConfigError: if the system has no such memory.
    """

    def __init__(self, slot_bytes: int, count: int) -> None:
        if not hasattr(os, "memfd_create"):
            raise ConfigError(
                "processes that load need Linux (memfd_create): use --loader threads in stage 2, "
                "--workers 0 in stage 1"
            )
        self._slot_bytes, self._count = slot_bytes, count
        self._file = os.memfd_create("slots")
        os.ftruncate(self._file, count * slot_bytes)
        self._map()

    def __reduce__(self) -> tuple[Callable[..., "SharedSlots"], tuple[Any, ...]]:
        return _received, (DupFd(self._file), self._slot_bytes, self._count)

    def slot(self, number: int) -> NDArray[np.uint8]:
        """Return the bytes of a slot; any number may be asked for, slots are taken in turn."""
        start = number % self._count * self._slot_bytes
        return self._bytes[start : start + self._slot_bytes]

    def close_file(self) -> None:
        """Send it to no further process; the memory is freed once nobody refers to a slot."""
        os.close(self._file)

    def _map(self) -> None:
        memory = mmap.mmap(self._file, self._count * self._slot_bytes)
        self._bytes: NDArray[np.uint8] = np.frombuffer(memory, np.uint8)


def _received(file: Any, slot_bytes: int, count: int) -> SharedSlots:
    slots = SharedSlots.__new__(SharedSlots)
    slots._slot_bytes, slots._count, slots._file = slot_bytes, count, file.detach()
    slots._map()
    return slots
