"""Memory of batches that two processes share.

It is anonymous (`memfd_create`, Linux), so nothing is left behind whatever ends the processes, and
/dev/shm and its size do not matter. Each slot holds the maps of a batch.
"""

import mmap
import os
from collections.abc import Callable, Mapping
from multiprocessing.reduction import DupFd
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.data.batch import BatchBuffer
from shared.data.batch_memory import BatchMemory
from shared.data.features import MapValues
from shared.errors import ConfigError

ALIGNMENT = 64  # bytes; of every array in a slot


class SharedSlots:
    """Slots for batches of up to a number of samples; sent to a process when that is spawned.

    Args:
        like: maps of a sample, for their shapes and dtypes.
        samples: of the largest batch.
        count: of slots.

    Raises:
        ConfigError: if the system has no such memory.
    """

    def __init__(self, like: Mapping[str, MapValues], samples: int, count: int) -> None:
        if not hasattr(os, "memfd_create"):
            raise ConfigError("--loader process needs Linux; use --loader threads")
        self.count = count
        arrays = BatchBuffer(like, samples).arrays
        self._slot_bytes = sum(_aligned(array.nbytes) for array in arrays)
        self._file = os.memfd_create("batches")
        os.ftruncate(self._file, count * self._slot_bytes)
        self._map()

    def __reduce__(self) -> tuple[Callable[..., "SharedSlots"], tuple[Any, ...]]:
        return _received, (DupFd(self._file), self.count, self._slot_bytes)

    def buffer(self, number: int, like: Mapping[str, MapValues], samples: int) -> BatchBuffer:
        """Return the buffer in a slot; the same for every process.

        Args:
            number: of the batch; slots are taken in turn.
            like: the maps that the slots were made for.
            samples: of the batch, at most those that the slots were made for.
        """
        start = number % self.count * self._slot_bytes
        return BatchBuffer(like, samples, _Slot(self._bytes[start : start + self._slot_bytes]))

    def close_file(self) -> None:
        """Close the file; the memory is freed when no process refers to a buffer any more."""
        os.close(self._file)

    def _map(self) -> None:
        memory = mmap.mmap(self._file, self.count * self._slot_bytes)
        self._bytes: NDArray[np.uint8] = np.frombuffer(memory, np.uint8)


class _Slot(BatchMemory):
    """Hands out a slot, piece after piece."""

    def __init__(self, content: NDArray[np.uint8]) -> None:
        super().__init__()
        self._left = content

    def tensor(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Tensor:
        """Return the next piece."""
        size = int(np.prod(shape)) * dtype.itemsize
        piece, self._left = self._left[:size], self._left[_aligned(size) :]
        return torch.from_numpy(piece.view(dtype).reshape(shape))


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _received(file: Any, count: int, slot_bytes: int) -> SharedSlots:
    slots = SharedSlots.__new__(SharedSlots)
    slots.count, slots._slot_bytes, slots._file = count, slot_bytes, file.detach()
    slots._map()
    return slots
