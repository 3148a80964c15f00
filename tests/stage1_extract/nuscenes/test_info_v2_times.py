"""Times of v2 info files, float64 seconds, come back as the microseconds they were made from."""

import numpy as np
import pytest

from stage1_extract.nuscenes.info_v2 import _microseconds

FIRST_US, LAST_US = 1_526_915_243_012_465, 1_542_801_739_547_891  # of nuScenes


def test_every_time_comes_back() -> None:
    times_us = np.random.default_rng(0).integers(FIRST_US, LAST_US, 20_000)
    assert [_microseconds(time_us / 1e6) for time_us in times_us.tolist()] == times_us.tolist()


@pytest.mark.parametrize("time_us", [FIRST_US, FIRST_US + 1, LAST_US - 1, LAST_US])
def test_neighbouring_times_stay_apart(time_us: int) -> None:
    assert _microseconds(time_us / 1e6) == time_us
