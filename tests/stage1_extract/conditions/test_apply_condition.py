"""A condition is applied where it says, and what its functions must not return is refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.config.classes import CAMERAS
from shared.errors import ConfigError, DatasetError
from stage1_extract.conditions.apply_condition import changed_poses, changes_of, edits_of
from stage1_extract.conditions.condition import Condition
from stage1_extract.conditions.sample_edits import ABSENT, COMPUTED, SampleEdits, StuckAt
from stage1_extract.nuscenes.nuscenes_tables import read_tables
from stage1_extract.nuscenes.records import SampleRecord
from stage1_extract.preprocessing.sweeps import load_points
from tests.stage1_extract.conditions.frames import cloud, record, records

PIXELS = np.full((4, 5, 3), 9, np.uint8)
POINTS = cloud([1, 2, 3, 40, 9], [4, 5, 6, 70, 8])


def condition(**functions: Any) -> Condition:
    return Condition(name="mine", family="mine", source="a test", **functions)


def test_sweeps_are_changed_in_their_own_file_before_they_are_merged(
    made_up_nuscenes: Path,
) -> None:
    """The sweep's points are at 2 and 3 m in its own frame, and have rings only there."""
    frame = read_tables(made_up_nuscenes, "v1.0-mini", "mini_val")[1]
    files = []

    def last_ring(points: Any, draw: Any) -> Any:
        files.append(float(draw.uniform(1)[0]))
        assert points[:, 0].tolist() == [2, 3]
        return points[points[:, 4] == 31]

    (changes,) = changes_of(condition(lidar_file=last_ring), [frame])
    merged = load_points(frame, 10, changes=changes)
    expected = [[2, 0, 0, 7, 0], [1, 0, 0, 7, 0.25], [0, 0, 0, 7, 0.5]]
    np.testing.assert_allclose(merged, expected, atol=1e-6)
    assert len(set(files)) == 3  # drawn per file


def test_a_file_draws_the_same_in_every_sample_that_it_is_a_sweep_of() -> None:
    def shifted(points: Any, draw: Any) -> Any:
        return points + np.float32(draw.uniform(1)[0])

    first, second = changes_of(condition(lidar_file=shifted), records(2))
    file = first.record.lidar_file
    np.testing.assert_array_equal(first.lidar_file(POINTS, file), second.lidar_file(POINTS, file))
    assert (
        first.lidar_file(POINTS, second.record.lidar_file) != first.lidar_file(POINTS, file)
    ).any()


def test_merged_points_are_changed_with_the_sample_at_hand(made_up_nuscenes: Path) -> None:
    frame = read_tables(made_up_nuscenes, "v1.0-mini", "mini_val")[1]

    def newest(points: Any, record: SampleRecord, draw: Any) -> Any:
        assert record is frame
        return points[points[:, 4] == 0]

    (changes,) = changes_of(condition(merged_points=newest), [frame])
    assert len(load_points(frame, 10, changes=changes)) == 2


def test_functions_run_only_for_the_sensors_that_are_touched() -> None:
    def only_the_second(frames: Any, own: Condition) -> list[SampleEdits]:
        return [SampleEdits(), SampleEdits(lidar=COMPUTED, cameras={"CAM_BACK": COMPUTED})]

    mine = condition(
        lidar_file=lambda points, draw: points[:1],
        merged_points=lambda points, record, draw: points[:1],
        image=lambda pixels, draw: pixels + np.uint8(1),
        edits=only_the_second,
    )
    untouched, touched = changes_of(mine, records(2))
    file = untouched.record.lidar_file
    assert len(untouched.lidar_file(POINTS, file)) == len(untouched.merged_points(POINTS)) == 2
    assert len(touched.lidar_file(POINTS, file)) == len(touched.merged_points(POINTS)) == 1
    brighter = [
        touched.image(PIXELS, camera, lambda: POINTS).max() == 10
        for camera in touched.record.cameras
    ]
    assert brighter == [camera == "CAM_BACK" for camera in CAMERAS]
    assert untouched.image(PIXELS, untouched.record.cameras[3], lambda: POINTS) is PIXELS


def test_without_edits_every_sensor_that_a_function_concerns_is_computed() -> None:
    every_camera = dict.fromkeys(CAMERAS, COMPUTED)
    images = condition(image=lambda pixels, draw: pixels)
    points = condition(merged_points=lambda points, record, draw: points)
    assert edits_of(images, records(2)) == [SampleEdits(cameras=every_camera)] * 2
    assert edits_of(points, records(2)) == [SampleEdits(lidar=COMPUTED)] * 2


def test_an_image_function_may_look_at_the_points_of_the_keyframe() -> None:
    def paint(pixels: Any, points: Any, camera: Any, draw: Any) -> Any:
        assert camera.name in CAMERAS
        return np.full_like(pixels, points[0, 3])

    (changes,) = changes_of(condition(image_with_points=paint), [record()])
    assert changes.image(PIXELS, changes.record.cameras[0], lambda: POINTS).max() == 40


def test_points_that_an_image_function_edits_are_the_recorded_ones_for_every_camera() -> None:
    def brighter(pixels: Any, points: Any, camera: Any, draw: Any) -> Any:
        points[:, 3] += 1
        return np.full_like(pixels, points[0, 3])

    (changes,) = changes_of(condition(image_with_points=brighter), [record()])
    shared = POINTS.copy()
    levels = [changes.image(PIXELS, view, lambda: shared).max() for view in changes.record.cameras]
    assert levels == [41] * len(CAMERAS)
    np.testing.assert_array_equal(shared, POINTS)


@pytest.mark.parametrize(
    ("returned", "what", "expected"),
    [
        (POINTS.astype(np.float64), r"float64 \(2, 5\)", r"float32 \(points, 5\)"),
        (POINTS[:, :4], r"float32 \(2, 4\)", r"float32 \(points, 5\)"),
        (POINTS[0], r"float32 \(5,\)", r"float32 \(points, 5\)"),
        (POINTS.tolist(), "a list", r"float32 \(points, 5\)"),
        (None, "a NoneType", r"float32 \(points, 5\)"),
        (cloud([np.nan, 0, 0, 0, 0]), "numbers that are NaN or infinite", "finite ones"),
        (cloud([0, np.inf, 0, 0, 0]), "numbers that are NaN or infinite", "finite ones"),
    ],
)
def test_what_is_not_points_is_refused_with_the_function_and_the_sample(
    returned: Any, what: str, expected: str
) -> None:
    mine = condition(
        lidar_file=lambda points, draw: returned,
        merged_points=lambda points, record, draw: returned,
    )
    (changes,) = changes_of(mine, [record()])
    words = f" returned {what} for sample n008-0, expected {expected}; correct the function"
    with pytest.raises(ConfigError, match="condition mine: its lidar_file" + words):
        changes.lidar_file(POINTS, changes.record.lidar_file)
    with pytest.raises(ConfigError, match="condition mine: its merged_points" + words):
        changes.merged_points(POINTS)


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (PIXELS.astype(np.float32), r"float32 \(4, 5, 3\) .*expected uint8 \(4, 5, 3\)"),
        (PIXELS[:2], r"uint8 \(2, 5, 3\) .*expected uint8 \(4, 5, 3\)"),
        (None, "a NoneType"),
    ],
)
def test_what_is_not_the_pixels_of_that_image_is_refused(returned: Any, words: str) -> None:
    functions: list[dict[str, Callable[..., Any]]] = [
        {"image": lambda pixels, draw: returned},
        {"image_with_points": lambda pixels, points, camera, draw: returned},
    ]
    for function in functions:
        (changes,) = changes_of(condition(**function), [record()])
        with pytest.raises(ConfigError, match=f"its {next(iter(function))} returned {words}"):
            changes.image(PIXELS, changes.record.cameras[0], lambda: POINTS)


@pytest.mark.parametrize(
    ("edits", "words"),
    [
        ([], "0 entries for 1 samples"),
        ([None], "are a NoneType, expected SampleEdits"),
        ([SampleEdits(cameras={0: ABSENT})], "name camera 0; cameras are named.*CAM_FRONT, "),  # type: ignore[dict-item]
        ([SampleEdits(cameras={"CAM_TOP": ABSENT})], "name camera 'CAM_TOP'"),
        ([SampleEdits(lidar="absent")], "'absent' for LIDAR_TOP"),  # type: ignore[arg-type]
        ([SampleEdits(cameras={"CAM_BACK": None})], "None for CAM_BACK"),  # type: ignore[dict-item]
        ([SampleEdits(lidar=COMPUTED)], "COMPUTED.* for LIDAR_TOP.*if a function"),
    ],
)
def test_edits_that_are_none_are_refused(edits: Any, words: str) -> None:
    mine = condition(image=lambda pixels, draw: pixels, edits=lambda frames, own: edits)
    with pytest.raises(ConfigError, match=f"condition mine: its edits.*{words}"):
        edits_of(mine, [record()])


def test_edits_may_mix_what_happens_to_sensors() -> None:
    edits = SampleEdits(lidar=StuckAt("n008-0"), cameras={"CAM_BACK": ABSENT})
    assert edits_of(condition(edits=lambda frames, own: (edits,)), [record(1)]) == [edits]


def test_poses_that_are_no_poses_and_other_images_are_refused() -> None:
    def enlarged(frame: SampleRecord, own: Condition) -> SampleRecord:
        views = [replace(view, rotation=2 * view.rotation) for view in frame.cameras]
        return replace(frame, cameras=tuple(views))

    def swapped(frame: SampleRecord, own: Condition) -> SampleRecord:
        return replace(frame, cameras=frame.cameras[::-1])

    with pytest.raises(DatasetError, match="camera CAM_FRONT to LiDAR: expected a rotation"):
        changed_poses(condition(camera_poses=enlarged), record())
    with pytest.raises(ConfigError, match="camera_poses returned other cameras or images"):
        changed_poses(condition(camera_poses=swapped), record())


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": "Beams 4"}, "lower-case letters"),
        ({"name": "../beams"}, "lower-case letters"),
        ({"severity": 0}, "the mildest is 1"),
        ({"parameters": {"rate": np.float32(1)}}, "stored as JSON"),
        ({"parameters": {"rate": float("nan")}}, "stored as JSON"),
        ({"image": None}, "does nothing; give it one of lidar_file"),
        ({"image_with_points": lambda *anything: None}, "both image and image_with_points"),
    ],
)
def test_a_condition_that_cannot_be_is_refused(fields: dict[str, Any], words: str) -> None:
    usual: dict[str, Any] = {"image": lambda pixels, draw: pixels, "source": "a test"}
    with pytest.raises(ConfigError, match=words):
        Condition(**{"name": "mine", "family": "mine", **usual, **fields})
