"""Memory for the maps of computed rows, which the processes that write them map as well."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cache.format.schema import ArraySpec
from shared.data.features import MapValues
from shared.process.memory.shared_slots import SharedSlots

FLOAT16 = np.dtype(np.float16)  # in which rows are computed, whatever a store makes of them


class RowMemory:
    """Places for rows, numbered from 0; a process that is sent it maps the same memory.

    Args:
        specs: the arrays of the store.
        rows: places.

    Raises:
        ConfigError: see `SharedSlots`.
    """

    def __init__(self, specs: Sequence[ArraySpec], rows: int) -> None:
        self._shapes = {spec.name: spec.shape for spec in specs if spec.feature_map == spec.name}
        sizes = [int(np.prod(shape)) * FLOAT16.itemsize for shape in self._shapes.values()]
        self._slots = SharedSlots(sum(sizes), rows)

    def maps(self, number: int) -> dict[str, NDArray[np.float16]]:
        """Return the maps at a place, float16, as whoever wrote there last has left them."""
        values = self._slots.slot(number).view(FLOAT16)
        maps, start = {}, 0
        for name, shape in self._shapes.items():
            end = start + int(np.prod(shape))
            maps[name] = values[start:end].reshape(shape)
            start = end
        return maps

    def put(self, number: int, maps: Mapping[str, MapValues]) -> None:
        """Copy the maps of a row to a place; float16, and of the shapes of the store."""
        for name, place in self.maps(number).items():
            values = maps[name]
            assert isinstance(values, np.ndarray)
            assert values.shape == place.shape, name
            np.copyto(place, values, casting="no")

    def close_file(self) -> None:
        """Send it to no further process."""
        self._slots.close_file()
