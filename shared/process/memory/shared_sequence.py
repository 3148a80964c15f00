"""A sequence that is once in memory for any number of processes.

As Python objects the records of nuScenes' 28,130 samples would take minutes to send to 16
processes, and half a gigabyte in each of them.
"""

import pickle
from collections.abc import Sequence
from itertools import accumulate
from typing import TypeVar, overload

import numpy as np

from shared.process.memory.shared_slots import SharedSlots

Item = TypeVar("Item", covariant=True)


class SharedSequence(Sequence[Item]):
    """Items that are made anew each time they are asked for; a process is sent next to nothing.

    Args:
        items: that can be pickled.

    Raises:
        ConfigError: see `SharedSlots`.
    """

    def __init__(self, items: Sequence[Item]) -> None:
        pieces = [pickle.dumps(item) for item in items]
        self._count = len(pieces)
        ends = np.array([0, *accumulate(map(len, pieces))], np.int64)
        self._memory = SharedSlots(ends.nbytes + int(ends[-1]), 1)
        content = self._memory.slot(0)
        content[: ends.nbytes] = ends.view(np.uint8)
        content[ends.nbytes :] = np.frombuffer(b"".join(pieces), np.uint8)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Item: ...

    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...

    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        if isinstance(index, slice):
            return [self[place] for place in range(self._count)[index]]
        place = range(self._count)[index]
        content = self._memory.slot(0)
        table_bytes = np.int64().itemsize * (self._count + 1)
        begin, end = content[:table_bytes].view(np.int64)[place : place + 2]
        item: Item = pickle.loads(content[table_bytes:][begin:end].data)
        return item

    def close_file(self) -> None:
        """Send it to no further process."""
        self._memory.close_file()
