"""Numbers in messages: singular where there is one, times in a unit that can be read."""

import pytest

from shared.wording import counted, did_you_mean, duration


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0 shards"), (1, "1 shard"), (2, "2 shards"), (28130, "28130 shards")]
)
def test_a_count_has_its_noun_in_singular_or_plural(number: int, said: str) -> None:
    assert counted(number, "shard") == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        *((0.4, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min")),
        *((7200, "2.0 h"), (100_000, "27.8 h")),
    ],
)
def test_a_duration_is_in_seconds_minutes_or_hours(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_the_nearest_name_is_asked_for_and_no_distant_one() -> None:
    assert did_you_mean("trian.zarr", ["val.zarr", "train.zarr"]) == "did you mean train.zarr?"
    assert did_you_mean("trian.zarr", ["runs"]) == did_you_mean("trian.zarr", []) == ""
