"""How far a stored map is from a live one.

A step is the distance of adjacent float16 numbers at the larger of the live value and the RMS of
its plane (a channel of a view): convolutions sum terms of that size, so a value near zero is the
difference of large ones and has their noise. In a quantised store a step is the 8-bit step, where
that is larger.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cache.format.quantise import quantise
from shared.data.features import FrameFeatures, MapValues, QuantisedMap, as_floats
from stage1_extract.parity.parity_tolerances import DIFFERING, LARGEST, MEAN, Difference

FLOAT16_TINY = float(np.finfo(np.float16).tiny)
FLOAT16_MANTISSA_BITS = 10
FLOAT32_EXPONENT = 0x7F800000  # these bits alone are the power of two below a positive float32


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MapDistance:
    """The distance of two maps; NaN where a value of either is not finite.

    Args:
        largest, mean: over all values, in steps.
        differing: share of the stored values that are not what a store would hold of the live ones.
    """

    largest: float
    mean: float
    differing: float


def float16_step(values: Tensor) -> Tensor:
    """Return the distance between adjacent float16 numbers at each float32 value."""
    sizes = values.abs().clamp(min=FLOAT16_TINY)
    powers = (sizes.view(torch.int32) & FLOAT32_EXPONENT).view(torch.float32)
    return powers * 2.0**-FLOAT16_MANTISSA_BITS


def as_stored(live: MapValues, like: MapValues) -> MapValues:
    """Return what a store holds of a finite live map.

    Args:
        live: float32.
        like: any map of the store; only its kind counts.
    """
    rounded: NDArray[np.float16] = torch.from_numpy(as_floats(live)).half().numpy()
    if not isinstance(like, QuantisedMap):
        return rounded
    with np.errstate(invalid="ignore"):  # of values that are not finite, which fail elsewhere
        return quantise(rounded)


def map_distance(live: MapValues, stored: MapValues) -> MapDistance:
    """Measure how far a stored map is from a live one.

    Args:
        live: (..., H, W) float32.
        stored: of the same shape, float16 or quantised.
    """
    ours = torch.from_numpy(as_floats(live)).float()
    theirs = torch.from_numpy(as_floats(stored)).float()
    if not (ours.isfinite().all() and theirs.isfinite().all()):
        return MapDistance(largest=math.nan, mean=math.nan, differing=math.nan)
    rms = ours.square().mean((-2, -1), keepdim=True).sqrt()  # (..., 1, 1)
    step = float16_step(torch.maximum(ours.abs(), rms))
    if isinstance(stored, QuantisedMap):
        step = torch.maximum(step, torch.from_numpy(stored.scale)[..., None, None])
    gap = (ours - theirs).abs_().div_(step)
    wanted = torch.from_numpy(as_floats(as_stored(live, stored))).float()
    is_different = wanted.view(torch.int32) != theirs.view(torch.int32)  # -0 is not 0
    return MapDistance(
        largest=float(gap.max()),
        mean=float(gap.mean()),
        differing=float(is_different.sum()) / is_different.numel(),
    )


def map_differences(
    live: Sequence[FrameFeatures], stored: Sequence[FrameFeatures]
) -> list[Difference]:
    """Compare every map of every sample."""
    differences = []
    for ours, theirs in zip(live, stored, strict=True):
        for name, values in ours.maps.items():
            distance = map_distance(values, theirs.maps[name])
            is_quantised = isinstance(theirs.maps[name], QuantisedMap)
            unit = "8-bit steps" if is_quantised else LARGEST.unit
            largest, mean = (dataclasses.replace(kind, unit=unit) for kind in (LARGEST, MEAN))
            differences += [
                Difference(quantity=name, measure=largest, value=distance.largest),
                Difference(quantity=mean_of(name), measure=mean, value=distance.mean),
                Difference(
                    quantity=differing_in(name), measure=DIFFERING, value=distance.differing
                ),
            ]
    return differences


def mean_of(name: str) -> str:
    """Return what the mean distance of a map is called."""
    return f"{name}, mean"


def differing_in(name: str) -> str:
    """Return what the share of values that differ in a map is called."""
    return f"{name}, values that differ"
