"""Absent and stuck sensors: which of them, in which samples, and the files that they deliver."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shared.config.classes import CAMERAS
from shared.errors import DatasetError
from stage1_extract.conditions.apply_condition import changes_of, edits_of
from stage1_extract.conditions.catalogue.condition_catalogue import load_condition
from stage1_extract.conditions.sample_edits import ABSENT, SampleEdits, StuckAt
from stage1_extract.conditions.stuck_sensors import previous_samples, stuck_record
from stage1_extract.nuscenes.records import SampleRecord
from stage1_extract.preprocessing.sweeps import load_points
from tests.stage1_extract.conditions.frames import cloud, real_records, record, records


def by_token(frames: list[SampleRecord]) -> dict[str, SampleRecord]:
    return {frame.token: frame for frame in frames}


def no_points() -> np.ndarray:
    raise AssertionError("an absent or untouched camera needs no points")


def test_lidar_and_cameras_drop_from_every_sample() -> None:
    without_lidar = edits_of(load_condition("lidar-drop"), records(2))
    assert without_lidar == [SampleEdits(lidar=ABSENT)] * 2
    without_cameras = edits_of(load_condition("cameras-drop"), records(2))
    assert without_cameras == [SampleEdits(cameras=dict.fromkeys(CAMERAS, ABSENT))] * 2


@pytest.mark.parametrize("camera", CAMERAS)
def test_a_camera_that_is_missing_is_missed_by_name(camera: str) -> None:
    name = f"missing-{camera.lower().replace('_', '-')}"
    assert edits_of(load_condition(name), records(1)) == [SampleEdits(cameras={camera: ABSENT})]


def test_an_absent_sensor_measures_zeros_and_the_others_what_they_measured() -> None:
    frame = record()
    pixels, points = np.full((4, 5, 3), 9, np.uint8), cloud([1, 2, 3, 4, 0.1])
    (changes,) = changes_of(load_condition("missing-cam-back"), [frame])
    black = [changes.image(pixels, camera, no_points).max() == 0 for camera in frame.cameras]
    assert black == [camera == "CAM_BACK" for camera in CAMERAS]
    assert changes.merged_points(points) is points
    (changes,) = changes_of(load_condition("lidar-drop"), [frame])
    assert changes.merged_points(points).tolist() == [[0, 0, 0, 0, 0]]
    assert changes.image(pixels, frame.cameras[0], no_points) is pixels


def test_images_are_lost_with_their_probability_independently_and_severities_nest() -> None:
    frames = records(300)
    lost = {}
    for percent in (20, 40, 60):
        edits = edits_of(load_condition(f"cameras-{percent}"), frames)
        lost[percent] = {
            (place, camera) for place, sample in enumerate(edits) for camera in sample.cameras
        }
        assert len(lost[percent]) / (6 * 300) == pytest.approx(percent / 100, abs=0.04)
        assert all(edit is ABSENT for sample in edits for edit in sample.cameras.values())
    assert lost[20] < lost[40] < lost[60]
    views_lost = {len([place for place, _ in lost[40] if place == i]) for i in range(300)}
    assert views_lost >= {0, 1, 2, 3, 4, 5}  # not all six views of a sample together


def test_the_sample_before_is_of_the_same_recording_and_follows_without_a_gap() -> None:
    frames = [
        record(0),
        record(1),
        record(0, scene="n015"),
        record(2),
        record(6),  # 2 s later: another scene of the recording
        record(7),
    ]
    expected = [None, "n008-0", None, "n008-1", None, "n008-6"]
    assert previous_samples(frames) == expected
    assert previous_samples(frames[::-1]) == expected[::-1]


@pytest.mark.parametrize("kind", ["lidar-stuck", "camera-stuck"])
def test_sensors_stick_at_the_sample_before_with_their_probability(kind: str) -> None:
    frames = records(400)
    stuck = {}
    for percent in (10, 50, 90):
        edits = edits_of(load_condition(f"{kind}-{percent}"), frames)
        assert edits[0] == SampleEdits()  # nothing before the first
        stuck[percent] = set()
        for place, sample in enumerate(edits):
            sensors = {"lidar": sample.lidar, **sample.cameras}
            for sensor, edit in sensors.items():
                assert edit in (None, StuckAt(f"n008-{place - 1}"))
                stuck[percent] |= {(place, sensor)} if edit else set()
        sensors_of_kind = 1 if kind == "lidar-stuck" else 6
        share = len(stuck[percent]) / (399 * sensors_of_kind)
        assert share == pytest.approx(percent / 100, abs=0.06)
    assert stuck[10] < stuck[50] < stuck[90]


def test_which_samples_stick_does_not_depend_on_the_samples_read_beside_them() -> None:
    condition = load_condition("camera-stuck-50")
    frames = records(20)
    together = edits_of(condition, frames)
    for place in range(1, 20):
        alone = edits_of(condition, frames[place - 1 : place + 1])
        assert alone[1] == together[place]
    assert edits_of(condition, frames[::-1]) == together[::-1]


def test_a_stuck_lidar_swaps_its_files_and_times_and_keeps_poses_and_boxes() -> None:
    frames = records(2)
    stuck = stuck_record(frames[1], SampleEdits(lidar=StuckAt("n008-0")), by_token(frames))
    assert stuck.lidar_file == frames[0].lidar_file
    assert stuck.sweeps == frames[0].sweeps
    assert stuck.timestamp_us == frames[0].timestamp_us
    assert stuck.token == "n008-1"
    assert stuck.cameras == frames[1].cameras
    assert stuck.global_from_ego is frames[1].global_from_ego
    assert stuck.annotations is frames[1].annotations


def test_a_stuck_camera_swaps_its_image_and_keeps_its_calibration() -> None:
    frames = records(2)
    edits = SampleEdits(cameras={"CAM_BACK": StuckAt("n008-0"), "CAM_FRONT": ABSENT})
    stuck = stuck_record(frames[1], edits, by_token(frames))
    swapped = [
        new.file != old.file for new, old in zip(stuck.cameras, frames[1].cameras, strict=True)
    ]
    assert swapped == [camera == "CAM_BACK" for camera in CAMERAS]
    assert stuck.cameras[3].file == frames[0].cameras[3].file
    assert stuck.cameras[3].translation_m is frames[1].cameras[3].translation_m
    assert stuck.lidar_file == frames[1].lidar_file


def test_a_record_without_a_stuck_sensor_is_the_same_object() -> None:
    frame = record(1)
    assert stuck_record(frame, SampleEdits(lidar=ABSENT), {}) is frame


def test_sticking_at_a_sample_that_is_not_at_hand_or_not_earlier_is_refused() -> None:
    frames = records(2)
    edits = SampleEdits(lidar=StuckAt("n008-0"))
    with pytest.raises(DatasetError, match=r"sample n008-1: .* n008-0, which is not among the s"):
        stuck_record(frames[1], edits, by_token(frames[1:]))
    later = replace(frames[0], timestamp_us=frames[1].timestamp_us)
    with pytest.raises(DatasetError, match="not an earlier one of the same recording"):
        stuck_record(frames[1], edits, by_token([later, frames[1]]))
    elsewhere = replace(frames[0], scene="n015")
    with pytest.raises(DatasetError, match="not an earlier one of the same recording"):
        stuck_record(frames[1], edits, by_token([elsewhere, frames[1]]))


@pytest.mark.real
def test_a_real_stuck_lidar_gives_the_points_of_the_earlier_sample_bit_for_bit(
    nuscenes_real: Path,
) -> None:
    frames = real_records(nuscenes_real)
    before, frame = frames[2], frames[3]
    assert previous_samples(frames)[3] == before.token
    edits = SampleEdits(lidar=StuckAt(before.token))
    points = load_points(stuck_record(frame, edits, by_token(frames)), 10)
    assert points.tobytes() == load_points(before, 10).tobytes()
    assert points.tobytes() != load_points(frame, 10).tobytes()
