"""Whether two frames are equal in everything except their maps, bit for bit.

Of combined variants, the store composes `img_from_lidar`, which rounds differently.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.data.features import FrameFeatures
from stage1_extract.parity.parity_tolerances import COMPOSED, FRAMES, Difference


def frames_difference(live: Sequence[FrameFeatures], stored: Sequence[FrameFeatures]) -> Difference:
    """Count the samples whose geometry or annotations differ in any bit of any field."""
    differ = [_fields(a.frame) != _fields(b.frame) for a, b in zip(live, stored, strict=True)]
    return Difference(quantity="geometry and annotations", measure=FRAMES, value=float(sum(differ)))


def combined_frames_differences(
    live: Sequence[FrameFeatures], stored: Sequence[FrameFeatures]
) -> list[Difference]:
    """Compare frames whose images are of another variant; only their projections may differ."""
    projected = [
        dataclasses.replace(
            theirs,
            frame=dataclasses.replace(theirs.frame, img_from_lidar=ours.frame.img_from_lidar),
        )
        for ours, theirs in zip(live, stored, strict=True)
    ]
    shares = [
        _largest_share(ours.frame.img_from_lidar, theirs.frame.img_from_lidar)
        for ours, theirs in zip(live, stored, strict=True)
    ]
    return [
        frames_difference(live, projected),
        Difference(
            quantity="projections of combined variants",
            measure=COMPOSED,
            value=float(np.max(shares)),  # Python's `max` may lose a NaN
        ),
    ]


def _largest_share(live: NDArray[np.float64], composed: NDArray[np.float64]) -> float:
    """Return the largest difference, relative to the largest entry of each camera's matrix."""
    largest = np.abs(live).max(axis=(-2, -1), keepdims=True)  # (V, 1, 1)
    return float((np.abs(live - composed) / largest).max())


def _fields(record: Any) -> list[object]:
    """Return every field of a frame in a form that is equal only if all its bits are."""
    return list(_walk(record))


def _walk(record: Any) -> Iterator[object]:
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if dataclasses.is_dataclass(value):
            yield from _walk(value)
        elif isinstance(value, np.ndarray):
            yield field.name, value.dtype.str, value.shape, value.tobytes()
        else:
            yield field.name, value
