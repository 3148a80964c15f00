"""Batches in memory that two processes share: each slot holds the maps of a batch.

Of a process that only loads, this is all it needs of a batch: it does without torch.
"""

from collections.abc import Mapping
from math import prod

import numpy as np
from numpy.typing import NDArray

from shared.data.features import MapValues
from shared.data.map_arrays import Arrays, MapArrays, map_parts
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
    sizes = [samples * part.nbytes for values in like.values() for part in map_parts(values)]
    return SharedSlots(sum(map(_aligned, sizes)), count)


def slot_arrays(
    slots: SharedSlots, number: int, like: Mapping[str, MapValues], samples: int
) -> MapArrays:
    """Return the maps in a slot; the same for every process.

    Args:
        slots: of `batch_slots`.
        number: of the batch.
        like: the maps that the slots were made for.
        samples: of the batch, at most those that the slots were made for.
    """
    left: NDArray[np.uint8] = slots.slot(number)
    arrays: dict[str, Arrays] = {}
    for name, values in like.items():
        pieces = []
        for part in map_parts(values):
            shape = (samples, *part.shape)
            size = prod(shape) * part.dtype.itemsize
            pieces.append(left[:size].view(part.dtype).reshape(shape))
            left = left[_aligned(size) :]
        arrays[name] = tuple(pieces)
    return MapArrays(arrays)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
