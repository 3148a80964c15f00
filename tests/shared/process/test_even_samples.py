"""Positions are spread over the whole, and never repeat."""

import pytest

from shared.process.even_samples import evenly_spaced


@pytest.mark.parametrize(
    ("count", "wanted", "positions"),
    [
        (10, 4, [0, 3, 6, 9]),
        (6, 3, [0, 2, 5]),  # the middle, 2.5, is rounded to even
        (3, 5, [0, 1, 2]),  # fewer than wanted: all
        (7, 1, [0]),
        (7, 0, []),
    ],
)
def test_positions_are_spread_from_the_first_to_the_last(
    count: int, wanted: int, positions: list[int]
) -> None:
    assert evenly_spaced(count, wanted) == positions
