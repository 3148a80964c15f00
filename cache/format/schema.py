"""Every byte of a row on disk: one `ArraySpec` per array, nothing implicit.

A row is a sample in one variant. Each array of a store has shape (variants, samples, *spec.shape)
and one chunk per row. The arrays of a row, with n boxes padded to `max_boxes` and V cameras:

    camera/stride16, ...          the preset's feature maps, float16; or, where the codec quantises,
                                  uint8 beside two small float32 arrays, one number per channel
    camera/stride16_scale, _zero  (and view): value = zero + scale * stored, see `quantise`
    geometry/img_from_lidar       (V, 4, 4) float64    see `shared.data.features.Frame`; absent if
                                                       the preset has no cameras
    geometry/ego_from_lidar       (4, 4)    float64
    geometry/global_from_ego      (4, 4)    float64
    annotations/box_count         ()        int64      n; rows after the first n are padding
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

SCHEMA_VERSION = 3

CAMERA_MATRICES = "geometry/img_from_lidar"
EGO_MATRIX = "geometry/ego_from_lidar"
BOX_COUNT = "annotations/box_count"
LABELS = "annotations/labels"
BOX_CODES = 9  # x y z, length width height, yaw, vx vy
QUANTISED_DTYPE = "uint8"

Row = Mapping[str, NDArray[Any]]  # by array name, each of its spec's shape and dtype


@dataclass(frozen=True, kw_only=True, slots=True)
class ArraySpec:
    """An array of a row, as it is on disk.

    Args:
        name: path inside the Zarr group, e.g. "camera/stride16".
        dims: one name per axis of `shape`.
        shape: size of one row, without the leading axes (variant, sample).
        dtype: NumPy's name, e.g. "float16".
        codec: name of the codec of its rows, see `cache.format.codec`.
        feature_map: the map of the frozen part that this array is, or whose scales or zero points
            it holds; None for everything else.
        per_box: whether the first axis is boxes, padded.
        about: explanation for other Zarr readers, in the array's attributes.
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
        """What other Zarr readers see where no row was written: a value that no row holds.

        An 8-bit map may hold any value, but there its scale and zero point are NaN.
        """
        if np.dtype(self.dtype).kind == "f":
            return float("nan")
        return int(np.iinfo(self.dtype).min)


def scale_name(feature_map: str) -> str:
    """Return the name of the array with the scales of a quantised map."""
    return f"{feature_map}_scale"


def zero_name(feature_map: str) -> str:
    """Return the name of the array with the zero points of a quantised map."""
    return f"{feature_map}_zero"


def map_specs(feature_map: FeatureMap, codec: str) -> list[ArraySpec]:
    """Return the arrays of a feature map."""
    name = feature_map.name
    values = ArraySpec(
        name=name,
        dims=tuple(feature_map.dims),
        shape=feature_map.shape,
        dtype="float16",
        codec=codec,
        feature_map=name,
    )
    if CODECS[codec].value_format != UINT8:
        return [values]
    groups = ArraySpec(
        name=scale_name(name),
        dims=values.dims[:-2],
        shape=values.shape[:-2],
        dtype="float32",
        feature_map=name,
        about=f"the step between two levels of {name}; 0 where all values are equal",
    )
    return [
        replace(
            values,
            dtype=QUANTISED_DTYPE,
            about=f"value = {zero_name(name)} + {scale_name(name)} * this, in float32; one scale "
            f"and one zero point per {' and '.join(groups.dims)}",
        ),
        groups,
        replace(groups, name=zero_name(name), about=f"what level 0 of {name} stands for"),
    ]


def array_specs(
    preset: Preset, max_boxes: int, codec: str = DEFAULT_CODEC, cut: Cut = BACKBONE_CUT
) -> tuple[ArraySpec, ...]:
    """Return every array of a store of `preset`, feature maps first.

    Args:
        preset: decides the feature maps, together with the cut.
        max_boxes: most boxes that a row can hold, at least 1.
        codec: of the feature maps.
        cut: where the frozen part ends.
    """
    maps = [spec for feature_map in cut.maps(preset) for spec in map_specs(feature_map, codec)]
    return (*maps, *frame_specs(max_boxes, has_cameras=preset.camera is not None))


def frame_specs(max_boxes: int, *, has_cameras: bool) -> tuple[ArraySpec, ...]:
    """Return the arrays of a row that are no feature maps.

    Args:
        max_boxes: most boxes that a row can hold, at least 1.
        has_cameras: whether a row has `img_from_lidar`.
    """
    matrix = ("row", "column")
    cameras = ArraySpec(
        name=CAMERA_MATRICES, dims=("V", *matrix), shape=(len(CAMERAS), 4, 4), dtype="float64"
    )
    geometry = [
        *([cameras] if has_cameras else []),
        ArraySpec(name=EGO_MATRIX, dims=matrix, shape=(4, 4), dtype="float64"),
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
    return (*geometry, box_count, boxes, *per_box_numbers)


def row_bytes(specs: tuple[ArraySpec, ...]) -> int:
    """Return the bytes of one uncompressed row, all arrays together."""
    return sum(spec.row_bytes for spec in specs)


def row_digest(spec: ArraySpec, values: NDArray[Any], box_count: int, algorithm: str) -> str:
    """Return the digest of an array of a row without its padding.

    So it does not depend on `max_boxes`, which may differ between two stores of the same frames.

    Args:
        spec: of the array.
        values: of the row.
        box_count: of the row.
        algorithm: of the store, see `Metadata.digest_algorithm`.
    """
    return array_digest(values[:box_count] if spec.per_box else values, algorithm)
