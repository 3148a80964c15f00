"""What each sensor contributes to the maps of a sample, as views of their memory."""

from collections.abc import Mapping

import numpy as np

from shared.config.classes import CAMERAS, LIDAR
from shared.data.combined_variants import is_camera_map
from shared.data.features import MapValues
from shared.data.map_arrays import copy_map, map_parts, whole_map

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
    return {
        name: whole_map(part[view] for part in map_parts(values))
        for name, values in maps.items()
        if is_camera_map(name)
    }


def copy_maps(source: Maps, target: Maps) -> None:
    """Copy maps of one format into existing memory."""
    for name, values in target.items():
        copy_map(source[name], values)


def empty_maps(like: Maps) -> dict[str, MapValues]:
    """Return new memory for maps of these shapes and dtypes."""
    return {
        name: whole_map(np.empty(part.shape, part.dtype) for part in map_parts(values))
        for name, values in like.items()
    }
