"""The range report of a feature map: what the stored values look like, mergeable over shards."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True)
class Statistics:
    """Of every value of one feature map in some rows, as it is stored: rounded or dequantised.

    Args:
        count: values looked at.
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
        """Look at one row."""
        wide = values.astype(np.float32)
        low, high = float(wide.min()), float(wide.max())
        mean = float(wide.mean(dtype=np.float64))
        wide -= np.float32(mean)
        np.square(wide, out=wide)  # in place: a row has millions of values
        return cls(
            count=wide.size,
            min=low,
            max=high,
            mean=mean,
            std=sqrt(wide.mean(dtype=np.float64)),
            absmax=max(-low, high),
        )


def merge(parts: Iterable[Statistics]) -> Statistics:
    """Return the statistics of all values of all parts; needs at least one part."""
    parts = list(parts)
    count = sum(part.count for part in parts)
    mean = sum(part.count * part.mean for part in parts) / count
    # Variances within the parts, plus the variance of their means.
    square = sum(part.count * (part.std**2 + (part.mean - mean) ** 2) for part in parts)
    return Statistics(
        count=count,
        min=min(part.min for part in parts),
        max=max(part.max for part in parts),
        mean=mean,
        std=sqrt(square / count),
        absmax=max(part.absmax for part in parts),
    )


def merge_by_array(parts: Iterable[Mapping[str, Statistics]]) -> dict[str, Statistics]:
    """Merge array by array."""
    collected: dict[str, list[Any]] = {}
    for part in parts:
        for name, statistics in part.items():
            collected.setdefault(name, []).append(statistics)
    return {name: merge(several) for name, several in collected.items()}
