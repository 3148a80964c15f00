"""Whether two frames are equal in everything except their maps, bit for bit."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from shared.data.features import FrameFeatures
from stage1_extract.parity.parity_tolerances import FRAMES, Difference


def frames_difference(live: Sequence[FrameFeatures], stored: Sequence[FrameFeatures]) -> Difference:
    """Count the samples whose geometry or annotations differ in any bit of any field."""
    differ = [_fields(a.frame) != _fields(b.frame) for a, b in zip(live, stored, strict=True)]
    return Difference(quantity="geometry and annotations", measure=FRAMES, value=float(sum(differ)))


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
