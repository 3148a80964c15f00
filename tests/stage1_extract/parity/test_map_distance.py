"""Maps are compared in float16 steps at the larger of a value and the RMS of its plane."""

import numpy as np
import pytest
import torch

from cache.format.quantise import quantise
from stage1_extract.parity.map_distance import as_stored, float16_step, map_distance


def plane(*values: float) -> np.ndarray:
    """Return a map of one channel, (1, 2, 2)."""
    return np.array(values, np.float32).reshape(1, 2, 2)


@pytest.mark.parametrize(
    ("value", "step"),
    [(1.0, 2**-10), (1.999, 2**-10), (-4.0, 2**-8), (0.0, 2**-24), (2**-14, 2**-24)],
)
def test_a_step_is_the_distance_to_the_next_float16_number(value: float, step: float) -> None:
    measured = float16_step(torch.tensor([value]))

    assert measured.item() == step == abs(float(np.spacing(np.float16(max(value, 2**-14, -value)))))


def test_a_value_near_zero_is_measured_at_the_rms_of_its_plane() -> None:
    live = plane(0.0, 2.0, 2.0, 2.0)  # RMS 1.73: a step is 2**-10 at the zero
    stored = live.copy()
    stored[0, 0, 0] = 3 * 2**-10

    assert map_distance(live, stored.astype(np.float16)).largest == 3


def test_a_large_value_is_measured_at_itself() -> None:
    live = plane(16.0, 0.0, 0.0, 0.0)  # RMS 8; a step at 16 is 2**-6
    stored = live + np.float32(2**-6)

    distance = map_distance(live, stored.astype(np.float16))

    assert distance.largest == 2  # the zeros, at the RMS: 2**-6 is two steps of 2**-7
    assert distance.mean == (1 + 3 * 2) / 4


def test_each_plane_has_its_own_rms() -> None:
    live = np.concatenate([plane(0, 2, 2, 2), plane(0, 1 / 64, 1 / 64, 1 / 64)])
    stored = live.copy()
    stored[:, 0, 0] = 2**-10

    large = map_distance(live[:1], stored[:1].astype(np.float16))
    both = map_distance(live, stored.astype(np.float16))

    assert (large.largest, both.largest) == (1, 128)


def test_values_that_differ_are_those_a_store_would_not_hold() -> None:
    live = plane(1 + 2**-12, 1, 1, 1)  # rounds to 1

    assert map_distance(live, plane(1, 1, 1, 1).astype(np.float16)).differing == 0
    assert map_distance(live, plane(1, 1, 1, 1 + 2**-10).astype(np.float16)).differing == 0.25


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("is_live", [True, False])
def test_what_is_not_finite_is_not_a_number(value: float, is_live: bool) -> None:
    live, stored = plane(1, 1, 1, 1), plane(1, 1, 1, 1).astype(np.float16)
    (live if is_live else stored)[0, 1, 1] = value

    distance = map_distance(live, stored)

    assert np.isnan([distance.largest, distance.mean, distance.differing]).all()


def test_a_quantised_map_is_measured_in_its_own_steps() -> None:
    live = np.linspace(0, 255, 256, dtype=np.float32).reshape(1, 16, 16)  # steps of 1
    stored = quantise(live.astype(np.float16))

    assert map_distance(live + np.float32(0.25), stored).largest == pytest.approx(0.25)
    assert map_distance(live, as_stored(live, stored)).differing == 0
