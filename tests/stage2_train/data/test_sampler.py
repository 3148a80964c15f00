"""The samples of a step depend on seed, epoch and position, and on nothing else."""

import math
from collections import Counter
from itertools import chain, islice

import numpy as np
import pytest

from shared.config.classes import CAMERAS, LIDAR
from shared.data.sensor_drop import SensorDrop
from shared.errors import ConfigError
from stage2_train.data.class_balance import ClassBalance
from stage2_train.data.sampler import EpochSampler, MicroBatchSampler, Place

SINGLES = SensorDrop(single_camera=0.3)


def sampler(samples: int = 6, batch_size: int = 2, **options: object) -> EpochSampler:
    return EpochSampler(samples, batch_size, seed=3, **options)  # type: ignore[arg-type]


def take(batches: EpochSampler, count: int) -> list[list[Place]]:
    return list(islice(batches, count))


def balance(samples: int) -> ClassBalance:
    """One sample in six has the second class, all have the first."""
    present = np.zeros((samples, 2), np.bool_)
    present[:, 0] = True
    present[::6, 1] = True
    return ClassBalance(present)


def test_each_epoch_has_every_sample_once_in_a_new_order() -> None:
    epochs = [
        [place.sample for place in chain(*batches)]
        for batches in (take(sampler(), 6)[:3], take(sampler(), 6)[3:])
    ]
    assert [sorted(epoch) for epoch in epochs] == [list(range(6))] * 2
    assert epochs[0] != epochs[1]


def test_every_epoch_draws_a_variant_of_each_sample() -> None:
    (first, second) = (
        {place.sample: place.variant for place in batch}
        for batch in take(sampler(600, 600, variants=3), 2)
    )
    for variants in (first, second):
        counts = Counter(variants.values())
        assert sum(counts[variant] for variant in range(3)) == 600
        assert min(counts[variant] for variant in range(3)) > 150
    assert sum(first[sample] == second[sample] for sample in range(600)) < 300


def test_the_variants_of_images_and_lidar_are_drawn_independently() -> None:
    (batch,) = take(sampler(9000, 9000, variants=3, per_sensor=True), 1)
    counts = Counter((place.variant, place.camera_variant) for place in batch)
    assert counts.keys() == {(lidar, camera) for lidar in range(3) for camera in range(3)}
    for count in counts.values():
        assert count == pytest.approx(1000, abs=120)  # four standard deviations


def test_drawing_per_sensor_changes_only_the_variant_of_the_images() -> None:
    options = {"balance": balance(12), "drop": SINGLES, "variants": 3}
    together = take(sampler(12, 5, **options), 8)
    per_sensor = take(sampler(12, 5, per_sensor=True, **options), 8)
    assert [[p._replace(camera_variant=None) for p in batch] for batch in per_sensor] == together
    assert all(place.camera_variant is None for batch in together for place in batch)


def test_a_sample_of_a_single_variant_has_nothing_to_draw() -> None:
    batches = take(sampler(12, 5, drop=SINGLES, per_sensor=True), 8)
    assert {(p.variant, p.camera_variant) for batch in batches for p in batch} == {(0, 0)}


@pytest.mark.parametrize("has_all", [False, True])
def test_the_order_can_be_entered_at_any_step(*, has_all: bool) -> None:
    options = (
        {"balance": balance(12), "drop": SINGLES, "variants": 2, "per_sensor": True}
        if has_all
        else {"variants": 2}
    )
    expected = take(sampler(12, 5, **options), 8)
    assert len({tuple(batch) for batch in expected}) == 8
    for start in range(8):
        assert take(sampler(12, 5, first_step=start, **options), 8 - start) == expected[start:]


def test_a_different_seed_gives_a_different_order() -> None:
    assert take(sampler(50), 5) != list(islice(EpochSampler(50, 2, seed=4), 5))


def test_by_default_sensors_are_dropped_as_often_as_modal_mask_3d_does() -> None:
    (batch,) = take(sampler(8000, 8000, drop=SensorDrop()), 1)
    counts = Counter(place.absent for place in batch)
    assert counts.keys() == {(), (LIDAR,), CAMERAS}
    assert counts[()] / 8000 == pytest.approx(0.5, abs=0.02)
    assert counts[LIDAR,] / 8000 == pytest.approx(0.25, abs=0.02)
    assert counts[CAMERAS] / 8000 == pytest.approx(0.25, abs=0.02)


def test_every_camera_is_equally_likely_to_be_dropped() -> None:
    only = SensorDrop(lidar=0.0, cameras=0.0, single_camera=0.6)
    (batch,) = take(sampler(8000, 8000, drop=only), 1)
    counts = Counter(place.absent for place in batch)
    assert counts.keys() == {(), *((name,) for name in CAMERAS)}
    for name in CAMERAS:
        assert counts[name,] / 8000 == pytest.approx(0.1, abs=0.015)


def test_every_epoch_drops_different_sensors_without_changing_the_order() -> None:
    first, second = take(sampler(64, 64, drop=SINGLES), 2)
    assert [place.absent for place in first] != [place.absent for place in second]
    plain = take(sampler(64, 64), 2)
    for batch, twin in zip((first, second), plain, strict=True):
        assert [place.sample for place in batch] == [place.sample for place in twin]


@pytest.mark.parametrize(
    "drop",
    [
        *({"lidar": -0.1}, {"single_camera": 0.6}, {"lidar": 0.7, "cameras": 0.4}),
        *({"lidar": math.nan}, {"cameras": math.nan}),
    ],
)
def test_invalid_probabilities_are_refused(drop: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="must be probabilities with a sum of at most 1"):
        SensorDrop(**drop)


@pytest.mark.parametrize(
    ("drop", "possible"),
    [
        ({}, {(LIDAR,), CAMERAS}),
        ({"cameras": 0.0}, {(LIDAR,)}),
        ({"lidar": 0.0}, {CAMERAS}),
        ({"lidar": 0.0, "cameras": 0.0, "single_camera": 0.1}, {CAMERAS[:1]}),
        ({"lidar": 0.0, "cameras": 0.0}, set()),
    ],
)
def test_what_may_be_dropped_is_known_before_anything_is_drawn(
    drop: dict[str, float], possible: set[tuple[str, ...]]
) -> None:
    assert set(SensorDrop(**drop).possible) == possible


def test_every_process_gets_its_own_micro_batches_pass_by_pass() -> None:
    order = EpochSampler(samples=8, batch_size=8, seed=0)
    taken = [
        list(islice(MicroBatchSampler(order, 8, process=process, processes=2, passes=2), 4))
        for process in range(2)
    ]

    first, second = islice(iter(order), 2)
    assert [place for own in taken for batch in own[:2] for place in batch] == first
    assert [place for own in taken for batch in own[2:] for place in batch] == second
    assert {len(batch) for own in taken for batch in own} == {2}


def test_a_batch_that_cannot_be_shared_evenly_is_refused() -> None:
    with pytest.raises(ConfigError, match="batch of 6 samples cannot be shared evenly by 2 proces"):
        MicroBatchSampler([], 6, process=0, processes=2, passes=2)
