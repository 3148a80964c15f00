"""Batches in memory that two processes share: each slot holds the maps of a batch."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.data.batch import BatchBuffer
from shared.data.batch_memory import BatchMemory
from shared.data.features import MapValues
from shared.process.memory.shared_slots import SharedSlots

ALIGNMENT = 64  # bytes; of every array in a slot


def batch_slots(like: Mapping[str, MapValues], samples: int, count: int) -> SharedSlots:
    """Return so many slots for batches of up to a number of samples.

    Args:
        like: maps of a sample, for their shapes and dtypes.
        samples: of the largest batch.
        count: of slots.

    Raises:
        ConfigError: see `SharedSlots`.
    """
    arrays = BatchBuffer(like, samples).arrays
    return SharedSlots(sum(_aligned(array.nbytes) for array in arrays), count)


def slot_buffer(
    slots: SharedSlots, number: int, like: Mapping[str, MapValues], samples: int
) -> BatchBuffer:
    """Return the buffer in a slot; the same for every process.

    Args:
        slots: of `batch_slots`.
        number: of the batch.
        like: the maps that the slots were made for.
        samples: of the batch, at most those that the slots were made for.
    """
    return BatchBuffer(like, samples, _Slot(slots.slot(number)))


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
