"""float16 is converted and checked as NumPy does it."""

import numpy as np
import pytest

from shared.float16 import as_float32, is_finite

EVERY = np.arange(2**16, dtype=np.uint16).view(np.float16)


def test_every_float16_becomes_the_float32_that_numpy_makes_of_it() -> None:
    assert as_float32(EVERY).tobytes() == EVERY.astype(np.float32).tobytes()
    rows = EVERY.reshape(256, 256)[::3, ::2]
    out = np.empty(rows.shape, np.float32)
    assert as_float32(rows, out=out) is out
    assert out.tobytes() == rows.astype(np.float32).tobytes()


def test_every_float16_is_finite_where_numpy_says_so() -> None:
    assert [is_finite(EVERY[[bits]]) for bits in range(2**16)] == np.isfinite(EVERY).tolist()


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_numbers_of_a_different_kind_may_be_finite_too(dtype: type) -> None:
    values = np.ones((2, 3), dtype)
    assert is_finite(values)
    if dtype is np.float32:
        values[1, 2] = np.inf
        assert not is_finite(values)
