"""Features that were rounded and measured where they were computed, so that nobody does it again.

A device rounds, checks and measures millions of values in the time a core needs for thousands.
`encoded_row` trusts these numbers; for features without them it takes its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from cache.format.statistics import Statistics
from shared.data.features import FrameFeatures


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
