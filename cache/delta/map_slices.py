"""What each sensor contributes to the maps of a sample, as views of their memory."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.config.classes import CAMERAS, LIDAR
from shared.data.combined_variants import is_camera_map
from shared.data.features import MapValues, QuantisedMap

Maps = Mapping[str, MapValues]


def sensor_maps(maps: Maps, sensor: str) -> dict[str, MapValues]:
    """Return the contribution of a sensor: a view of every camera map, or the LiDAR maps.

    Args:
        maps: of a sample, all or some.
        sensor: `LIDAR` or one of `CAMERAS`.
    """
    if sensor == LIDAR:
        return {name: values for name, values in maps.items() if not is_camera_map(name)}
    view = CAMERAS.index(sensor)
    return {name: view_of(values, view) for name, values in maps.items() if is_camera_map(name)}


def view_of(values: MapValues, view: int) -> MapValues:
    """Return a view of a camera map, (C, H, W), sharing its memory."""
    if isinstance(values, QuantisedMap):
        return QuantisedMap(
            values=values.values[view], scale=values.scale[view], zero=values.zero[view]
        )
    own: NDArray[np.floating[Any]] = values[view]
    return own


def copy_maps(source: Maps, target: Maps) -> None:
    """Copy maps of one format into existing memory."""
    for name, values in target.items():
        copied = source[name]
        if isinstance(values, QuantisedMap):
            assert isinstance(copied, QuantisedMap), "both come from stores of one codec"
            values.values[...], values.scale[...] = copied.values, copied.scale
            values.zero[...] = copied.zero
        else:
            assert not isinstance(copied, QuantisedMap), "both come from stores of one codec"
            values[...] = copied


def empty_maps(like: Maps) -> dict[str, MapValues]:
    """Return new memory for maps of these shapes and dtypes."""
    maps: dict[str, MapValues] = {}
    for name, values in like.items():
        if isinstance(values, QuantisedMap):
            maps[name] = QuantisedMap(
                values=np.empty(values.values.shape, values.values.dtype),
                scale=np.empty(values.scale.shape, values.scale.dtype),
                zero=np.empty(values.zero.shape, values.zero.dtype),
            )
        else:
            maps[name] = np.empty(values.shape, values.dtype)
    return maps
