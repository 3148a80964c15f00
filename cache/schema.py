"""Every byte of a row on disk: one `ArraySpec` per array, nothing implicit.

A row is one sample in one view. Each array of a store has the shape (views, samples, *spec.shape)
and is cut into one chunk per row. The arrays of a row, n boxes padded to `max_boxes`, V cameras:

    camera/stride16, ...          the preset's feature maps, float16
    geometry/img_from_lidar       (V, 4, 4) float64    see `shared.features.Frame`; not there in a
                                                       store of a preset without cameras
    geometry/ego_from_lidar       (4, 4)    float64
    geometry/global_from_ego      (4, 4)    float64
    annotations/box_count         ()        int64      n; the padding after it means nothing
    annotations/boxes_lidar       (max_boxes, 9) float32
    annotations/labels            (max_boxes,)   int64; also lidar_points and radar_points

Tokens, scenes and times do not depend on the view and are in `cache.samples`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.classes import CAMERAS
from shared.config import Preset
from shared.digests import array_digest

SCHEMA_VERSION = 2

CAMERA_MATRICES = "geometry/img_from_lidar"
BOX_COUNT = "annotations/box_count"
BOX_CODES = 9  # x y z, length width height, yaw, vx vy

Row = Mapping[str, NDArray[Any]]  # by array name, each of its spec's shape and dtype


@dataclass(frozen=True, kw_only=True, slots=True)
class ArraySpec:
    """One array of a row, as it lies on disk.

    Args:
        name: path inside the Zarr group, e.g. "camera/stride16".
        dims: one name per axis of `shape`.
        shape: size of one row; the leading (view, sample) axes are not counted.
        dtype: NumPy's name, e.g. "float16".
        is_feature: a map of the frozen part: checked finite, with statistics in the ledger.
        per_box: the first axis is boxes, padded.
    """

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    is_feature: bool = False
    per_box: bool = False

    @property
    def row_bytes(self) -> int:
        """Bytes of one uncompressed row."""
        return prod(self.shape) * np.dtype(self.dtype).itemsize

    @property
    def fill_value(self) -> float | int:
        """What other Zarr readers see where no row was written: nothing a row can hold."""
        if np.dtype(self.dtype).kind == "f":
            return float("nan")
        return int(np.iinfo(self.dtype).min)


def array_specs(preset: Preset, max_boxes: int) -> tuple[ArraySpec, ...]:
    """Return every array of a store of `preset`, feature maps first.

    Args:
        preset: decides the feature maps.
        max_boxes: boxes a row has room for, at least 1.
    """
    maps = [
        ArraySpec(
            name=one.name, dims=tuple(one.dims), shape=one.shape, dtype="float16", is_feature=True
        )
        for one in preset.maps
    ]
    matrix = ("row", "column")
    cameras = ArraySpec(
        name=CAMERA_MATRICES, dims=("V", *matrix), shape=(len(CAMERAS), 4, 4), dtype="float64"
    )
    geometry = [
        *([] if preset.camera is None else [cameras]),
        ArraySpec(name="geometry/ego_from_lidar", dims=matrix, shape=(4, 4), dtype="float64"),
        ArraySpec(name="geometry/global_from_ego", dims=matrix, shape=(4, 4), dtype="float64"),
    ]
    boxes = ArraySpec(
        name="annotations/boxes_lidar",
        dims=("box", "code"),
        shape=(max_boxes, BOX_CODES),
        dtype="float32",
        per_box=True,
    )
    per_box_numbers = [
        ArraySpec(
            name=f"annotations/{name}",
            dims=("box",),
            shape=(max_boxes,),
            dtype="int64",
            per_box=True,
        )
        for name in ("labels", "lidar_points", "radar_points")
    ]
    box_count = ArraySpec(name=BOX_COUNT, dims=(), shape=(), dtype="int64")
    return (*maps, *geometry, box_count, boxes, *per_box_numbers)


def row_bytes(specs: tuple[ArraySpec, ...]) -> int:
    """Return the bytes of one uncompressed row, all arrays together."""
    return sum(spec.row_bytes for spec in specs)


def row_digest(spec: ArraySpec, values: NDArray[Any], box_count: int) -> str:
    """Return the digest of one array of a row, padding left out.

    So it does not depend on `max_boxes`, which may differ between two stores of the same frames.
    """
    return array_digest(values[:box_count] if spec.per_box else values)
