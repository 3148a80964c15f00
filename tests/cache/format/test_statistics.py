"""Statistics are NumPy's, and those of shares merged are those of all values at once."""

from dataclasses import astuple

import numpy as np
import pytest

from cache.format.statistics import Statistics, merge, merge_by_array

FLOAT32 = 1e-6  # `of` squares in float32

# Of different sizes, means and deviations: what a merge may confuse.
SHARES = [
    np.linspace(-3.0, 1.0, 7, dtype=np.float32),
    np.linspace(10.0, 30.0, 40, dtype=np.float32),
    np.full(5, -8.0, np.float32),
]
# A map, in more than one piece.
LARGE = np.random.default_rng(0).normal(1.0, 3.0, (3, 250, 200)).astype(np.float16)


def expected(values: np.ndarray) -> tuple[float, ...]:
    wide = values.astype(np.float64)
    return (wide.size, wide.min(), wide.max(), wide.mean(), wide.std(), np.abs(wide).max())


@pytest.mark.parametrize("values", [*SHARES, -SHARES[1], SHARES[1].astype(np.float16), LARGE])
def test_statistics_of_a_row_are_numpys(values: np.ndarray) -> None:
    assert astuple(Statistics.of(values)) == pytest.approx(expected(values), rel=FLOAT32)


def test_merged_shares_have_the_statistics_of_all_values() -> None:
    together = expected(np.concatenate(SHARES))
    assert astuple(merge(map(Statistics.of, SHARES))) == pytest.approx(together, rel=FLOAT32)
    by_array = merge_by_array(
        [{"a": Statistics.of(share), "b": Statistics.of(share)} for share in SHARES]
    )
    assert by_array.keys() == {"a", "b"}
    assert astuple(by_array["b"]) == pytest.approx(together, rel=FLOAT32)
