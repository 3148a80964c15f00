"""From `shared.data.features.FrameFeatures` to the arrays of a row, checked, and back."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.format.quantise import quantise
from cache.format.schema import (
    BOX_COUNT,
    CAMERA_MATRICES,
    EGO_MATRIX,
    ArraySpec,
    Row,
    scale_name,
    zero_name,
)
from cache.format.statistics import MapMeasure, MeasuredFeatures
from shared.data.features import (
    NO_CAMERAS,
    Annotations,
    Frame,
    FrameFeatures,
    MapValues,
    QuantisedMap,
)
from shared.errors import CacheError

FLOAT16_MAX = float(np.finfo(np.float16).max)
GEOMETRY_CODES = 7  # the box codes before the velocity, which nuScenes may leave unknown (NaN)


def encode_frame(specs: Sequence[ArraySpec], features: FrameFeatures) -> dict[str, NDArray[Any]]:
    """Return the arrays of one row, checked, rounded or quantised, and padded.

    Raises:
        CacheError: naming sample and array, if an array is absent, has the wrong shape, is not
            finite or does not fit float16, or if there are too many boxes for the store.
    """
    frame = features.frame
    plain = _plain(specs, features)
    measures = features.measures if isinstance(features, MeasuredFeatures) else {}
    boxes = len(frame.annotations.boxes_lidar)
    row: dict[str, NDArray[Any]] = {}
    for spec in specs:
        where = f"{spec.name} of sample {frame.token}, variant {frame.variant}"
        if spec.name in row:
            continue  # scales and zero points come with their map
        if spec.name not in plain:
            raise CacheError(f"{where} is absent; the store was created with a different preset")
        values = plain[spec.name]
        if spec.is_quantised:
            in_float16 = replace(spec, dtype="float16")
            checked = _checked(in_float16, values, measures.get(spec.name), where=where)
            row |= _quantised(spec, checked)
        elif spec.per_box:
            row[spec.name] = _pad(spec, values, boxes=boxes, where=where)
        else:
            row[spec.name] = _checked(spec, values, measures.get(spec.name), where=where)
    return row


def _plain(specs: Sequence[ArraySpec], features: FrameFeatures) -> dict[str, NDArray[Any]]:
    """Return the arrays of a frame by name, unchanged.

    Raises:
        CacheError: if the store does not have such an array, or a map is already in 8 bit.
    """
    frame = features.frame
    annotations = frame.annotations
    plain: dict[str, NDArray[Any]] = {
        **{name: _not_quantised(values, name, frame) for name, values in features.maps.items()},
        EGO_MATRIX: frame.ego_from_lidar,
        "geometry/global_from_ego": frame.global_from_ego,
        BOX_COUNT: np.asarray(len(annotations.boxes_lidar), np.int64),
        "annotations/boxes_lidar": annotations.boxes_lidar,
        "annotations/labels": annotations.labels,
        "annotations/lidar_points": annotations.lidar_points,
        "annotations/radar_points": annotations.radar_points,
    }
    if len(frame.img_from_lidar):
        plain[CAMERA_MATRICES] = frame.img_from_lidar
    unknown = plain.keys() - {spec.name for spec in specs}
    if unknown:
        raise CacheError(
            f"sample {frame.token}: this store has no array called {', '.join(sorted(unknown))}; "
            "it was created with a different preset"
        )
    return plain


def _not_quantised(values: MapValues, name: str, frame: Frame) -> NDArray[np.floating[Any]]:
    if isinstance(values, QuantisedMap):
        raise CacheError(
            f"{name} of sample {frame.token}, variant {frame.variant} is in 8 bit already; a "
            "store is written from what the backbones computed"
        )
    return values


def _quantised(spec: ArraySpec, values: NDArray[np.float16]) -> dict[str, NDArray[Any]]:
    """Return the three arrays of a map in 8 bit."""
    quantised = quantise(values)
    return {
        spec.name: quantised.values,
        scale_name(spec.name): quantised.scale,
        zero_name(spec.name): quantised.zero,
    }


def _checked(
    spec: ArraySpec, values: NDArray[Any], measure: MapMeasure | None = None, *, where: str
) -> NDArray[Any]:
    """Check an array and return it in the store's dtype; a measure saves looking at the values."""
    if values.shape != spec.shape:
        raise CacheError(
            f"{where}: this store holds ({', '.join(spec.dims)}) = {spec.shape}, got "
            f"{values.shape}. The store was created with a different preset; `feature-cache show "
            "STORE` names it."
        )
    if spec.feature_map is not None:
        low, high = _range(values) if measure is None else (measure.low, measure.high)
        peak = max(-low, high) if low == low else low  # a NaN anywhere makes min NaN
        if not peak <= FLOAT16_MAX:  # written so that NaN fails too
            raise CacheError(
                f"{where}: largest magnitude is {peak:g}, float16 ends at {FLOAT16_MAX:g}. Such a "
                "value means that the weights did not load or the input is damaged; check the "
                "checkpoint. The shard was not written; finished shards are kept."
            )
    elif values.dtype.kind == "f" and not np.isfinite(values).all():
        raise CacheError(
            f"{where} holds a value that is not finite; check the calibration of this sample. "
            "The shard was not written; finished shards are kept."
        )
    return np.asarray(values, dtype=spec.dtype, order="C")


def _range(values: NDArray[Any]) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _pad(spec: ArraySpec, values: NDArray[Any], *, boxes: int, where: str) -> NDArray[Any]:
    """Check a per-box array and return it with zeros after the last box."""
    expected = (boxes, *spec.shape[1:])
    if values.shape != expected:
        raise CacheError(f"{where}: expected {expected} for {boxes} boxes, got {values.shape}")
    if boxes > spec.shape[0]:
        raise CacheError(
            f"{where}: {boxes} boxes, but this store holds at most {spec.shape[0]} per sample, "
            "fixed when it was created. The annotations have changed since; extract into a "
            "different --store."
        )
    if values.ndim > 1 and not np.isfinite(values[:, :GEOMETRY_CODES]).all():
        raise CacheError(
            f"{where}: a centre, size or yaw is not finite (only velocities may be NaN); "
            "check the annotations of this sample"
        )
    padded = np.zeros(spec.shape, spec.dtype)
    padded[:boxes] = values
    if padded.dtype.kind == "f":
        # One bit pattern, so that digests do not depend on its sign.
        padded[np.isnan(padded)] = np.nan
    return padded


def decode_maps(specs: Sequence[ArraySpec], row: Row) -> dict[str, MapValues]:
    """Return the feature maps of a row; quantised ones stay in 8 bit."""
    maps: dict[str, MapValues] = {}
    for spec in specs:
        if spec.is_quantised:
            maps[spec.name] = QuantisedMap(
                values=row[spec.name],
                scale=row[scale_name(spec.name)],
                zero=row[zero_name(spec.name)],
            )
        elif spec.feature_map == spec.name:
            maps[spec.name] = row[spec.name]
    return maps


def decode_frame(*, token: str, scene: str, timestamp_us: int, variant: int, row: Row) -> Frame:
    """Rebuild a frame from the arrays of its row; feature maps are not needed."""
    boxes = int(row[BOX_COUNT])
    return Frame(
        token=token,
        scene=scene,
        timestamp_us=timestamp_us,
        variant=variant,
        img_from_lidar=row.get(CAMERA_MATRICES, NO_CAMERAS),
        ego_from_lidar=row[EGO_MATRIX],
        global_from_ego=row["geometry/global_from_ego"],
        annotations=Annotations(
            boxes_lidar=row["annotations/boxes_lidar"][:boxes].copy(),
            labels=row["annotations/labels"][:boxes].copy(),
            lidar_points=row["annotations/lidar_points"][:boxes].copy(),
            radar_points=row["annotations/radar_points"][:boxes].copy(),
        ),
    )
