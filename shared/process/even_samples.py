"""A few samples that stand for all of a data set."""

import numpy as np


def evenly_spaced(count: int, wanted: int) -> list[int]:
    """Return `wanted` positions spread evenly over `count` (at least 1), both ends included.

    Returns:
        Ascending positions without repetition: all of them if there are no more than `wanted`.
    """
    positions = np.linspace(0, count - 1, wanted).round().astype(int)
    return np.unique(positions).tolist()  # type: ignore[no-any-return]
