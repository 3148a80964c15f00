"""The maps of a batch as arrays, to be filled sample by sample; known without torch."""

from collections.abc import Iterable, Mapping
from typing import Any

from numpy.typing import NDArray

from shared.data.features import MapValues, QuantisedMap

Arrays = tuple[NDArray[Any], ...]


class MapArrays:
    """Memory for the maps of a batch, to be filled in any order and thread.

    Args:
        arrays: by the name of the map, `map_parts` with the samples in front.
    """

    def __init__(self, arrays: Mapping[str, Arrays]) -> None:
        self._arrays = arrays

    def sample(self, index: int) -> dict[str, MapValues]:
        """Return the maps of a sample as views of the batch's memory."""
        return {
            name: whole_map(part[index] for part in parts) for name, parts in self._arrays.items()
        }

    @property
    def arrays(self) -> list[NDArray[Any]]:
        """All memory of the maps, in the same order for every batch of the same maps."""
        return [part for parts in self._arrays.values() for part in parts]


def map_parts(values: MapValues) -> Arrays:
    """Return the arrays that a map consists of: itself, or values, scale and zero in 8 bit."""
    if isinstance(values, QuantisedMap):
        return values.values, values.scale, values.zero
    return (values,)


def whole_map(parts: Iterable[NDArray[Any]]) -> MapValues:
    """Return the map that consists of these arrays: undoes `map_parts`."""
    first, *others = parts
    if not others:
        return first
    scale, zero = others
    return QuantisedMap(values=first, scale=scale, zero=zero)


def copy_map(source: MapValues, target: MapValues) -> None:
    """Copy a map into the memory of one of the same format."""
    for own, copied in zip(map_parts(target), map_parts(source), strict=True):
        own[...] = copied
