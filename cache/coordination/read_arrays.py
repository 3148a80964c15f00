"""Reads arrays of a sample: those of a row, or those of the cameras from another variant's row."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from numpy.typing import NDArray

from cache.coordination.store import Store
from cache.format.codec import DamageError
from cache.format.schema import CAMERA_MATRICES, EGO_MATRIX, ArraySpec, Row, scale_name
from shared.data.combined_variants import combined_img_from_lidar, is_camera_map
from shared.data.features import MapValues, QuantisedMap


def read_arrays(
    store: Store,
    specs: Sequence[ArraySpec],
    position: int,
    variant: int,
    camera_variant: int,
    buffers: Mapping[str, NDArray[Any]] | None = None,
) -> Row:
    """Read every array once, from the row that it belongs to.

    Args:
        store: it has these rows.
        specs: what to read.
        position: of the sample in the store.
        variant: of everything but the cameras.
        camera_variant: of the cameras' maps. Where it differs, `img_from_lidar` is composed, for
            which the ego pose of its row is read too.
        buffers: arrays to read into, by name; the others are new.

    Raises:
        CacheError: if a row is damaged.
    """
    items = [(spec, camera_variant if _is_of_cameras(spec) else variant) for spec in specs]
    is_composed = variant != camera_variant and CAMERA_MATRICES in {spec.name for spec in specs}
    if is_composed:
        items += [(spec, camera_variant) for spec in store.arrays if spec.name == EGO_MATRIX]
    arrays = list(store.path.for_each(partial(_read, store, position, buffers or {}), items))
    row = {spec.name: array for spec, array in zip(specs, arrays, strict=False)}  # not the pose
    if is_composed:
        row[CAMERA_MATRICES] = combined_img_from_lidar(
            row[CAMERA_MATRICES], arrays[-1], row[EGO_MATRIX]
        )
    return row


def map_buffers(
    specs: Sequence[ArraySpec], maps: Mapping[str, MapValues]
) -> dict[str, NDArray[Any]]:
    """Return the memory of maps, all or some, by the names of their arrays among `specs`."""
    return {
        spec.name: _buffer(spec, maps[spec.feature_map])
        for spec in specs
        if spec.feature_map is not None and spec.feature_map in maps
    }


def _buffer(spec: ArraySpec, maps: MapValues) -> NDArray[Any]:
    if not isinstance(maps, QuantisedMap):
        return maps
    if spec.is_quantised:
        return maps.values
    return maps.scale if spec.name == scale_name(spec.feature_map or "") else maps.zero


def _read(
    store: Store,
    position: int,
    buffers: Mapping[str, NDArray[Any]],
    item: tuple[ArraySpec, int],
) -> NDArray[Any]:
    spec, variant = item
    try:
        return store.read_array(spec, variant, position, buffers.get(spec.name))
    except DamageError as error:
        raise store.damage(spec, variant, position, error) from error


def _is_of_cameras(spec: ArraySpec) -> bool:
    return is_camera_map(spec.name) or spec.name == CAMERA_MATRICES
