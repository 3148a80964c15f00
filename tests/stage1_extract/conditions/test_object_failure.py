"""Points inside the boxes of failing objects are removed, and no others."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shared.config.classes import LIDAR
from stage1_extract.conditions.apply_condition import changes_of, edits_of
from stage1_extract.conditions.catalogue.condition_catalogue import load_condition
from stage1_extract.conditions.lidar.object_failure import points_in_boxes, remove_objects
from stage1_extract.conditions.sample_edits import COMPUTED
from stage1_extract.preprocessing.sweeps import load_points
from tests.stage1_extract.conditions.frames import (
    Scripted,
    boxes,
    cloud,
    real_records,
    record,
    records,
    with_boxes,
)

# 4 m long, 2 m wide, 1.5 m high, at (10, 5, 1); the second is turned by 90 degrees.
STRAIGHT = [10.0, 5, 1, 4, 2, 1.5, 0]
TURNED = [10.0, 5, 1, 4, 2, 1.5, np.pi / 2]
CORNERS = [
    [11.9, 5.9, 1.7],
    [8.1, 4.1, 0.3],
    [12.1, 5, 1],
    [10, 6.1, 1],
    [10, 5, 1.8],
    [10, 6.9, 1],
]


def points_at(places: list[list[float]]) -> np.ndarray:
    return cloud(*([*place, 50, 0.1] for place in places))


def test_a_box_is_turned_about_its_centre_and_has_its_size() -> None:
    points = points_at(CORNERS)
    straight = points_in_boxes(points, boxes(STRAIGHT).boxes_lidar)
    turned = points_in_boxes(points, boxes(TURNED).boxes_lidar)
    assert straight.tolist() == [True, True, False, False, False, False]
    assert turned.tolist() == [False, False, False, True, False, True]


@pytest.mark.parametrize("yaw", [0.0, 0.3, 1.2, -2.9])
def test_the_quick_search_finds_what_every_point_against_every_box_finds(yaw: float) -> None:
    generator = np.random.default_rng(0)
    points = cloud(*np.column_stack([generator.uniform(-9, 9, (2000, 3)), np.zeros((2000, 2))]))
    rows = [[*generator.uniform(-6, 6, 3), *generator.uniform(1, 6, 3), yaw + i] for i in range(7)]
    table = boxes(*rows).boxes_lidar.astype(np.float64)
    slow = np.zeros(len(points), bool)
    for x, y, z, length, width, height, turn, *_ in table:
        away = (points[:, 0] - x) + 1j * (points[:, 1] - y)
        local = away * np.exp(-1j * turn)
        slow |= (
            (abs(local.real) <= length / 2)
            & (abs(local.imag) <= width / 2)
            & (abs(points[:, 2] - z) <= height / 2)
        )
    assert slow.any()
    np.testing.assert_array_equal(points_in_boxes(points, boxes(*rows).boxes_lidar), slow)


def test_objects_fail_at_their_rate_and_a_higher_rate_fails_more_of_the_same() -> None:
    far = [30.0, 5, 1, 4, 2, 1.5, 0]
    frame = with_boxes(record(), STRAIGHT, far)
    points = points_at([[10, 5, 1], [30, 5, 1], [20, 5, 1]])
    removed = {
        rate: remove_objects(points, frame, Scripted(0.2, 0.6), rate)[:, 0].tolist()
        for rate in (0.1, 0.5, 0.7)
    }
    assert removed == {0.1: [10, 30, 20], 0.5: [30, 20], 0.7: [20]}


def test_boxes_without_lidar_points_by_nuscenes_count_do_not_fail() -> None:
    """As in the source, whose loader leaves such boxes out; sweeps may have points there."""
    frame = replace(record(), annotations=boxes(STRAIGHT, points=[0]))
    points = points_at([[10, 5, 1]])
    assert len(remove_objects(points, frame, Scripted(0.0), 1.0)) == 1


def test_all_points_may_be_removed_and_none_if_there_are_no_boxes() -> None:
    points = points_at([[10, 5, 1]])
    emptied = remove_objects(points, with_boxes(record(), STRAIGHT), Scripted(0.0), 1.0)
    assert emptied.shape == (0, 5)
    assert emptied.dtype == np.float32
    assert len(remove_objects(points, record(), Scripted(), 1.0)) == 1


def test_half_of_the_samples_are_touched_and_in_them_every_object_fails() -> None:
    condition = load_condition("objects-sample")
    frames = [with_boxes(frame, STRAIGHT) for frame in records(400)]
    touched = [edits.lidar is COMPUTED for edits in edits_of(condition, frames)]
    assert 160 < sum(touched) < 240
    first = touched.index(True)
    changes = changes_of(condition, frames)
    points = points_at([[10, 5, 1], [20, 5, 1]])
    assert changes[first].merged_points(points)[:, 0].tolist() == [20]
    assert len(changes[touched.index(False)].merged_points(points)) == 2


def test_samples_without_a_failing_object_are_not_touched() -> None:
    condition = load_condition("objects-object-30")
    frames = [with_boxes(frame, STRAIGHT) for frame in records(400)]
    edits = edits_of(condition, frames)
    numbers = [condition.draw(frame.token, LIDAR).uniform(1)[0] for frame in frames]
    assert [edit.lidar is COMPUTED for edit in edits] == [number < 0.3 for number in numbers]
    assert 80 < sum(edit.lidar is COMPUTED for edit in edits) < 160
    assert all(edit.lidar is None for edit in edits_of(condition, records(5)))  # no boxes at all


@pytest.mark.real
def test_in_real_keyframes_the_points_are_those_that_the_devkit_finds(nuscenes_real: Path) -> None:
    from nuscenes.utils.data_classes import Box
    from nuscenes.utils.geometry_utils import points_in_box
    from pyquaternion import Quaternion

    for frame in real_records(nuscenes_real)[1:]:
        keyframe = load_points(frame, 0)
        inside = np.zeros(len(keyframe), bool)
        for x, y, z, length, width, height, yaw, *_ in frame.annotations.boxes_lidar.tolist():
            turn = Quaternion(axis=[0, 0, 1], radians=yaw)
            box = Box([x, y, z], [width, length, height], turn)
            inside |= points_in_box(box, keyframe[:, :3].T)
        found = points_in_boxes(keyframe, frame.annotations.boxes_lidar)
        assert inside.sum() > 200
        assert (found != inside).sum() <= 1  # on a surface, rounding decides
        # nuScenes counts with the roll and pitch that boxes lose in the LiDAR frame.
        assert found.sum() == pytest.approx(frame.annotations.lidar_points.sum(), rel=0.1)
