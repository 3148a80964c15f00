"""Random numbers of a condition depend on seed, family, subject and sensor, and on nothing else."""

import subprocess
import sys

import numpy as np
import pytest

from stage1_extract.conditions.draw import Draw

KEY = (7, "beams", "token", "CAM_FRONT")


def test_the_numbers_are_those_of_every_process() -> None:
    code = f"""
from stage1_extract.conditions.draw import Draw
print(Draw(*{KEY!r}).uniform(3).tolist())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(Draw(*KEY).uniform(3).tolist())


def test_the_numbers_are_these_for_ever() -> None:
    """SHA-256 and PCG64 are specified; a store made years ago must find the same numbers."""
    assert Draw(*KEY).uniform(2).tolist() == [0.4682301169034282, 0.9102695936492292]


def test_normal_numbers_are_these_up_to_the_last_bits_of_a_processor() -> None:
    expected = [-0.7979048918595231, -0.20280707364662748, -0.5139142152938397]
    np.testing.assert_allclose(Draw(*KEY).normal(3), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("place", range(4))
def test_each_part_of_the_key_changes_the_numbers(place: int) -> None:
    changed = [*KEY]
    changed[place] = 8 if place == 0 else "else"
    assert Draw(*changed).uniform(1)[0] != Draw(*KEY).uniform(1)[0]


def test_parts_of_the_key_do_not_run_into_each_other() -> None:
    assert Draw(0, "a", "bc", "d").uniform(1)[0] != Draw(0, "ab", "c", "d").uniform(1)[0]


def test_normal_numbers_have_mean_0_and_deviation_1_and_normal_tails() -> None:
    numbers = Draw(*KEY).normal(200, 1000)
    assert numbers.shape == (200, 1000)
    assert abs(numbers.mean()) < 0.01
    assert abs(numbers.std() - 1) < 0.01
    assert abs((numbers > 1.959964).mean() - 0.025) < 0.002


def test_16_bits_cover_their_range_evenly() -> None:
    bits = Draw(*KEY).bits16(5, 7, 1001)
    assert bits.shape == (5, 7, 1001)
    assert bits.dtype == np.uint16
    assert abs(bits.mean() / 65535 - 0.5) < 0.01
    assert bits.min() < 20
    assert bits.max() > 65515


def test_a_chance_is_below_its_probability() -> None:
    first = Draw(*KEY).uniform(1)[0]
    assert Draw(*KEY).chance(first + 1e-9)
    assert not Draw(*KEY).chance(first)
