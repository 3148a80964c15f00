"""Every byte of a row on disk: one `ArraySpec` per array, nothing implicit.

A row is one sample in one variant. Each array of a store has the shape (variants, samples, *spec.shape)
and is cut into one chunk per row. The arrays of a row, n boxes padded to `max_boxes`, V cameras:

    camera/stride16, ...          the preset's feature maps, float16; or, where the codec quantises,
                                  uint8 beside two small float32 arrays, one number per channel
    camera/stride16_scale, _zero  (and variant): value = zero + scale * stored, see `cache.format.quantise`
    geometry/img_from_lidar       (V, 4, 4) float64    see `shared.data.features.Frame`; not there in a
                                                       store of a preset without cameras
    geometry/ego_from_lidar       (4, 4)    float64
    geometry/global_from_ego      (4, 4)    float64
    annotations/box_count         ()        int64      n; the padding after it means nothing
    annotations/boxes_lidar       (max_boxes, 9) float32
    annotations/labels            (max_boxes,)   int64; also lidar_points and radar_points

Tokens, scenes and times do not depend on the variant and are in `cache.format.samples`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.format.codec import CODECS, DEFAULT_CODEC, UINT8, ZSTD
from shared.config.classes import CAMERAS
from shared.config.cut import BACKBONE_CUT, Cut
from shared.config.preset import FeatureMap, Preset
from shared.digests import array_digest

SCHEMA_VERSION = 2

CAMERA_MATRICES = "geometry/img_from_lidar"
BOX_COUNT = "annotations/box_count"
LABELS = "annotations/labels"
BOX_CODES = 9  # x y z, length width height, yaw, vx vy
QUANTISED_DTYPE = "uint8"

Row = Mapping[str, NDArray[Any]]  # by array name, each of its spec's shape and dtype


@dataclass(frozen=True, kw_only=True, slots=True)
class ArraySpec:
    """One array of a row, as it lies on disk.

    Args:
        name: path inside the Zarr group, e.g. "camera/stride16".
        dims: one name per axis of `shape`.
        shape: size of one row; the leading (variant, sample) axes are not counted.
        dtype: NumPy's name, e.g. "float16".
        codec: name of the codec of its rows, see `cache.format.codec`.
        feature_map: the map of the frozen part that this array is, or whose scales or zero points
            it holds; None for everything else.
        per_box: the first axis is boxes, padded.
        about: what other Zarr readers need to know, in the array's attributes.
    """

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    codec: str = ZSTD.name
    feature_map: str | None = None
    per_box: bool = False
    about: str = ""

    @property
    def row_bytes(self) -> int:
        """Bytes of one uncompressed row."""
        return prod(self.shape) * np.dtype(self.dtype).itemsize

    @property
    def is_quantised(self) -> bool:
        """Whether this is a feature map in 8 bit."""
        return self.feature_map == self.name and self.dtype == QUANTISED_DTYPE

    @property
    def fill_value(self) -> float | int:
        """What other Zarr readers see where no row was written: nothing a row can hold.

        A map in 8 bit can hold everything, but its scale and zero point are NaN then.
        """
        if np.dtype(self.dtype).kind == "f":
            return float("nan")
        return int(np.iinfo(self.dtype).min)


def scale_name(feature_map: str) -> str:
    """Return the name of the array of a quantised map's scales."""
    return f"{feature_map}_scale"


def zero_name(feature_map: str) -> str:
    """Return the name of the array of a quantised map's zero points."""
    return f"{feature_map}_zero"


def _map_specs(one: FeatureMap, codec: str) -> list[ArraySpec]:
    """Return the arrays of one feature map."""
    values = ArraySpec(
        name=one.name,
        dims=tuple(one.dims),
        shape=one.shape,
        dtype="float16",
        codec=codec,
        feature_map=one.name,
    )
    if CODECS[codec].storage != UINT8:
        return [values]
    groups = ArraySpec(
        name=scale_name(one.name),
        dims=values.dims[:-2],
        shape=values.shape[:-2],
        dtype="float32",
        feature_map=one.name,
        about=f"the step between two levels of {one.name}; 0 where all values are equal",
    )
    return [
        replace(
            values,
            dtype=QUANTISED_DTYPE,
            about=f"value = {zero_name(one.name)} + {scale_name(one.name)} * this, in float32; one "
            f"scale and one zero point per {' and '.join(groups.dims)}",
        ),
        groups,
        replace(groups, name=zero_name(one.name), about=f"what level 0 of {one.name} stands for"),
    ]


def array_specs(
    preset: Preset, max_boxes: int, codec: str = DEFAULT_CODEC, cut: Cut = BACKBONE_CUT
) -> tuple[ArraySpec, ...]:
    """Return every array of a store of `preset`, feature maps first.

    Args:
        preset: decides the feature maps, with the cut.
        max_boxes: boxes a row has room for, at least 1.
        codec: of the feature maps.
        cut: where the frozen part ends.
    """
    maps = [spec for one in cut.maps(preset) for spec in _map_specs(one, codec)]
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
