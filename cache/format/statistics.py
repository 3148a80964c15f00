"""Statistics of the values of a feature map, which can be merged over shards.

`MeasuredFeatures` bring them along: a device rounds, checks and measures millions of values in the
time a core needs for thousands, so nobody does it again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.data.features import FrameFeatures, QuantisedMap
from shared.float16 import VALUES_AT_ONCE, as_float32


@dataclass(frozen=True, kw_only=True, slots=True)
class Statistics:
    """Statistics of a feature map in some rows, of the values as read: rounded or dequantised.

    Args:
        count: number of values.
        min, max, mean, std: of these values; std divides by `count`.
        absmax: largest magnitude; float16 ends at 65504.
    """

    count: int
    min: float
    max: float
    mean: float
    std: float
    absmax: float

    @classmethod
    def of(cls, values: NDArray[np.floating[Any]]) -> "Statistics":
        """Return the statistics of a row."""
        flat = values.reshape(-1)
        starts = range(0, flat.size, VALUES_AT_ONCE)
        return merge(cls._of_some(flat[start : start + VALUES_AT_ONCE]) for start in starts)

    @classmethod
    def _of_some(cls, values: NDArray[np.floating[Any]]) -> "Statistics":
        is_half = values.dtype == np.float16
        wide = as_float32(values) if is_half else values.astype(np.float32)
        low, high = float(wide.min()), float(wide.max())
        mean = float(wide.mean(dtype=np.float64))
        wide -= np.float32(mean)
        np.square(wide, out=wide)
        return cls(
            count=wide.size,
            min=low,
            max=high,
            mean=mean,
            std=sqrt(wide.mean(dtype=np.float64)),
            absmax=max(-low, high),
        )

    @classmethod
    def of_quantised(cls, quantised: QuantisedMap) -> "Statistics":
        """Return what `of` returns for the dequantised values, from sums of the stored ones.

        The sums of a plane are whole numbers, exact or nearly so in float32, which takes a fifth of
        the time that dequantising does.
        """
        levels = quantised.values.reshape(quantised.scale.size, -1)
        zero, scale = quantised.zero.reshape(-1), quantised.scale.reshape(-1)
        low = float((zero + scale * levels.min(axis=1)).min())
        high = float((zero + scale * levels.max(axis=1)).max())
        wide = levels.astype(np.float32)
        plane_means = wide.mean(axis=1, keepdims=True)
        wide -= plane_means  # the squares of what is left have no large common part
        squares = np.einsum("ij,ij->i", wide, wide).astype(np.float64)
        means = zero + scale.astype(np.float64) * plane_means[:, 0]
        mean = float(means.mean())
        variance = (scale**2 * squares).sum() / wide.size + ((means - mean) ** 2).mean()
        return cls(
            count=wide.size,
            min=low,
            max=high,
            mean=mean,
            std=sqrt(variance),
            absmax=max(-low, high),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class MapMeasure:
    """What was measured of a feature map.

    Args:
        low, high: smallest and largest value before rounding; NaN if any value is.
        statistics: of the values after rounding to float16.
    """

    low: float
    high: float
    statistics: Statistics


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredFeatures(FrameFeatures):
    """A frame whose maps are float16 already.

    Args:
        measures: by map.
    """

    measures: Mapping[str, MapMeasure]


def merge(shares: Iterable[Statistics]) -> Statistics:
    """Return the statistics of all values of all shares, of which there is at least one."""
    shares = list(shares)
    count = sum(share.count for share in shares)
    mean = sum(share.count * share.mean for share in shares) / count
    # Variances within the shares, plus the variance of their means.
    square = sum(share.count * (share.std**2 + (share.mean - mean) ** 2) for share in shares)
    return Statistics(
        count=count,
        min=min(share.min for share in shares),
        max=max(share.max for share in shares),
        mean=mean,
        std=sqrt(square / count),
        absmax=max(share.absmax for share in shares),
    )


def merge_by_array(shares: Iterable[Mapping[str, Statistics]]) -> dict[str, Statistics]:
    """Merge array by array."""
    collected: dict[str, list[Statistics]] = {}
    for share in shares:
        for name, statistics in share.items():
            collected.setdefault(name, []).append(statistics)
    return {name: merge(statistics) for name, statistics in collected.items()}
