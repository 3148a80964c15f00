"""Sweeps are merged as official CMT merges them, and damaged files are named."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shared.errors import DatasetError
from stage1_extract.nuscenes.nuscenes_tables import read_tables
from stage1_extract.nuscenes.records import SampleRecord
from stage1_extract.preprocessing.sweeps import load_points, read_points


@pytest.fixture
def record(made_up_nuscenes: Path) -> SampleRecord:
    return read_tables(made_up_nuscenes, "v1.0-mini", "mini_val")[1]


def test_sweeps_follow_the_keyframe_moved_and_with_their_lag(record: SampleRecord) -> None:
    points = load_points(record, 10)
    assert points.dtype == np.float32
    expected = [
        [2, 0, 0, 7, 0],
        [3, 1, -1, 255, 0],
        [1, 0, 0, 7, 0.25],
        [2, 1, -1, 255, 0.25],
        [0, 0, 0, 7, 0.5],
        [1, 1, -1, 255, 0.5],
    ]
    np.testing.assert_allclose(points, expected, atol=1e-6)


def test_sweeps_are_moved_with_the_bits_of_the_simple_way(record: SampleRecord) -> None:
    random = np.random.default_rng(0)
    files = [record.lidar_file, *(sweep.file for sweep in record.sweeps)]
    clouds = [np.float32(random.normal(0, 30, (500, 5))) for _ in files]
    for file, points in zip(files, clouds, strict=True):
        points[:, 3:] = random.integers(0, 32, (500, 2))
        file.write_bytes(points.tobytes())
    turns = np.linalg.qr(random.normal(size=(2, 3, 3)))[0]
    sweeps = tuple(
        replace(sweep, rotation=turn, translation_m=random.normal(size=3))
        for sweep, turn in zip(record.sweeps, turns, strict=True)
    )

    keyframe, *expected = clouds
    keyframe[:, 4] = 0
    for points, sweep in zip(expected, sweeps, strict=True):
        points[:, :3] = points[:, :3] @ sweep.rotation.T
        points[:, :3] += sweep.translation_m
        points[:, 4] = record.lag_s(sweep)

    merged = load_points(replace(record, sweeps=sweeps), 10)
    assert merged.tobytes() == np.concatenate([keyframe, *expected]).tobytes()


@pytest.mark.parametrize(("sweeps", "points"), [(0, 2), (1, 4), (2, 6), (3, 6)])
def test_the_newest_sweeps_are_taken(record: SampleRecord, sweeps: int, points: int) -> None:
    assert len(load_points(record, sweeps)) == points


def test_close_points_are_dropped_from_sweeps_but_not_from_the_keyframe(
    record: SampleRecord,
) -> None:
    """A 2 m square around the sensor, in the sweep's own frame; its border is kept."""
    points = np.array(
        [[0.9, -0.9, 5, 1, 0], [1, 0, 0, 2, 0], [0, -1, 0, 3, 0], [0.5, 3, 0, 4, 0]], np.float32
    )
    for file in (record.lidar_file, record.sweeps[0].file):
        file.write_bytes(points.tobytes())

    merged = load_points(record, 1, drop_close_points=True)

    assert merged[:, 3].tolist() == [1, 2, 3, 4, 2, 3, 4]


@pytest.mark.parametrize(("drop", "copies_have"), [(False, 2), (True, 1)])
def test_a_keyframe_without_sweeps_can_stand_in_for_them(
    record: SampleRecord, drop: bool, copies_have: int
) -> None:
    points = np.array([[0, 0, 0, 1, 9], [5, 5, 0, 2, 9]], np.float32)
    record.lidar_file.write_bytes(points.tobytes())
    alone = replace(record, sweeps=())

    merged = load_points(alone, 3, drop_close_points=drop, pad_without_sweeps=True)

    assert len(merged) == 2 + 3 * copies_have
    assert not merged[:, 4].any()  # no lag
    assert len(load_points(alone, 3, drop_close_points=drop)) == 2
    assert len(load_points(record, 3, pad_without_sweeps=True)) == 2 + 2 * 2


def test_a_sweep_turns_before_it_moves(record: SampleRecord) -> None:
    left = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    sweep = replace(record.sweeps[0], rotation=left, translation_m=np.array([10.0, 20, 30]))
    points = load_points(replace(record, sweeps=(sweep,)), 1)
    np.testing.assert_array_equal(points[2:, :3], [[10, 22, 30], [9, 23, 29]])


def test_product_and_sum_are_rounded_separately(record: SampleRecord) -> None:
    tiny = 2.0**-25  # half a float32 step at 1: lost if the product is rounded before the sum
    sweep = replace(
        record.sweeps[0], rotation=np.eye(3) * (0.5 + tiny), translation_m=np.full(3, 2 * tiny)
    )
    x = load_points(replace(record, sweeps=(sweep,)), 1)[2, 0]
    assert x == np.float32(np.float32(2 * (0.5 + tiny)) + 2 * tiny) == 1
    assert np.float32(2 * (0.5 + tiny) + 2 * tiny) > 1


def test_the_lag_is_quantised_as_official(record: SampleRecord) -> None:
    """The difference of two float64 epoch seconds: 0.050338 s becomes 0.05033779."""
    frame = replace(record, timestamp_us=1_533_151_604_048_025)
    sweep = replace(record.sweeps[0], timestamp_us=1_533_151_603_997_687)
    assert frame.lag_s(sweep) == np.float32(0.050337791442871094)


@pytest.mark.parametrize("cut_bytes", [1, 4, 40])
def test_a_truncated_file_is_an_error_that_names_it(record: SampleRecord, cut_bytes: int) -> None:
    file = record.sweeps[0].file
    file.write_bytes(file.read_bytes()[:-cut_bytes])
    with pytest.raises(
        DatasetError, match=rf"{re.escape(file.name)} has {40 - cut_bytes} bytes.*truncated"
    ):
        load_points(record, 10)


def test_a_missing_file_is_an_error_that_names_it(record: SampleRecord) -> None:
    record.lidar_file.unlink()
    name = re.escape(record.lidar_file.name)
    with pytest.raises(DatasetError, match=rf"{name} cannot be read \(No such"):
        load_points(record, 10)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_not_finite_is_an_error(record: SampleRecord, value: float) -> None:
    points = read_points(record.lidar_file)
    points[1, 2] = value
    record.lidar_file.write_bytes(points.tobytes())
    with pytest.raises(DatasetError, match=r"1 of 2 points are implausible, the first is number 1"):
        load_points(record, 10)
