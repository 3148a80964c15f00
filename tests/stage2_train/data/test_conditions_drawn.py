"""Conditions of training samples: drawn from seed and place, read from delta stores."""

from collections import Counter
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pytest

from cache.delta.conditioned_features import ConditionedFeatures
from cache.delta.delta_metadata import ConditionSummary
from cache.delta.open_features import open_delta
from cache.reader import CachedFeatures
from shared.config.classes import CAMERAS, LIDAR
from shared.data.sensor_drop import NOTHING, SensorDrop
from shared.errors import ConfigError
from stage2_train.data.conditioned_stores import by_condition, require_same_names
from stage2_train.data.dataset import StoreDataset
from stage2_train.data.loader import BatchLoader
from stage2_train.data.sampler import CLEAN, EpochSampler, MicroBatchSampler, Place
from tests.cache.delta.small_deltas import plan_of, write_small_delta

PAIRS = (("beams", 0.2), ("dark", 0.5))


def sampler(**options: object) -> EpochSampler:
    settings = {"samples": 1000, "batch_size": 20, "seed": 3, "drop": SensorDrop(), "variants": 2}
    return EpochSampler(**{**settings, **options})  # type: ignore[arg-type]


def test_conditions_come_as_often_as_they_say_and_change_nothing_else() -> None:
    with_them = sampler(conditions=PAIRS, per_sensor=True).epoch(1)
    without = sampler(per_sensor=True).epoch(1)

    assert [place._replace(condition=CLEAN) for place in with_them] == without
    counts = Counter(place.condition for place in with_them)
    assert counts["beams"] == pytest.approx(200, abs=40)
    assert counts["dark"] == pytest.approx(500, abs=50)
    assert counts.keys() == {"beams", "dark", CLEAN}
    # On top of them, sensors are left out of as many samples as of clean ones.
    dropped = [place.condition for place in with_them if place.absent]
    assert Counter(dropped)["dark"] == pytest.approx(250, abs=40)


def test_probabilities_of_one_in_all_leave_no_clean_sample() -> None:
    places = sampler(conditions=(("beams", 0.5), ("dark", 0.5))).epoch(0)
    assert {place.condition for place in places} == {"beams", "dark"}


def test_a_draw_depends_on_seed_and_place_alone() -> None:
    whole = list(islice(sampler(conditions=PAIRS), 120))
    assert list(islice(sampler(conditions=PAIRS, first_step=53), 67)) == whole[53:]
    assert list(islice(sampler(conditions=PAIRS, seed=4), 120)) != whole
    shares = [
        islice(
            MicroBatchSampler(
                sampler(conditions=PAIRS), 20, process=process, processes=2, passes=2
            ),
            240,
        )
        for process in range(2)
    ]
    first, second = (list(share) for share in shares)
    joined = [
        list(chain(*first[step : step + 2], *second[step : step + 2])) for step in range(0, 240, 2)
    ]
    assert joined == whole


@pytest.mark.parametrize(
    ("place", "label"),
    [
        (Place(0, 0), "all"),
        (Place(0, 0, condition="beams"), "beams"),
        (Place(0, 0, (LIDAR,), condition="dark"), "no lidar"),
        (Place(0, 0, NOTHING, 1), "all"),
    ],
)
def test_logs_call_a_sample_by_what_is_absent_then_by_its_condition(
    place: Place, label: str
) -> None:
    assert place.label == label


@pytest.fixture(scope="module")
def base(tiny_store: Path) -> CachedFeatures:
    return CachedFeatures(tiny_store)


@pytest.fixture(scope="module")
def delta(base: CachedFeatures, tmp_path_factory: pytest.TempPathFactory) -> ConditionedFeatures:
    """LiDAR of two samples and one camera of one are changed, and the projections of all."""
    path = tmp_path_factory.mktemp("deltas") / "train.shaken.zarr"
    plan = plan_of(base, {LIDAR: "rr.", CAMERAS[2]: "..r"}, has_geometry=True)
    summary = ConditionSummary(name="shaken", family="shaken", severity=None, source="a test")
    write_small_delta(path, base, plan, name="shaken", condition=summary)
    return open_delta(path, base)


@pytest.mark.parametrize("workers", [0, 3])
def test_a_batch_holds_each_sample_under_its_own_condition(
    base: CachedFeatures, delta: ConditionedFeatures, workers: int
) -> None:
    dataset = StoreDataset(base, base.tokens, {"shaken": delta})
    places = [
        Place(0, 0),
        Place(0, 0, condition="shaken"),
        Place(0, 2, condition="shaken"),
        Place(0, 1, (LIDAR,), condition="shaken"),
    ]

    (batch,) = BatchLoader(dataset, [places], workers)

    (clean,), conditioned = base.read(base.tokens[:1]), delta.read(base.tokens)
    expected = [clean, conditioned[0], conditioned[2], conditioned[1]]
    for name, values in batch.maps.items():
        for i, features in enumerate(expected):
            of_sample = features.maps[name]
            if name.startswith("lidar/") and i == 3:
                of_sample = base.null.maps[name]  # what is absent is absent, whatever its condition
            np.testing.assert_array_equal(values[i], of_sample, err_msg=f"{name} {i}")
    assert (batch.img_from_lidar[1] != batch.img_from_lidar[0]).any()
    np.testing.assert_array_equal(batch.img_from_lidar[1], conditioned[0].frame.img_from_lidar)
    assert batch.conditions == ("all", "shaken", "shaken", "no lidar")
    assert any((batch.maps[name][0] != batch.maps[name][1]).any() for name in batch.maps)


def test_the_stores_are_those_of_the_recipe(delta: ConditionedFeatures) -> None:
    stores = by_condition([delta])
    require_same_names(stores, (("shaken", 0.5),))
    with pytest.raises(ConfigError, match="both of the condition shaken"):
        by_condition([delta, delta])
    with pytest.raises(ConfigError, match=r"name beams, but --conditions opens shaken"):
        require_same_names(stores, (("shaken", 0.5), ("beams", 0.1)))
    with pytest.raises(ConfigError, match="name beams, but --conditions opens no delta store"):
        require_same_names({}, (("beams", 0.1),))
    with pytest.raises(ConfigError, match=r"shaken no probability.*--set conditions=shaken:0\.5"):
        require_same_names(stores, ())
