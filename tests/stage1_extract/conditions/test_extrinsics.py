"""Calibration is disturbed by the published amounts, in degrees and metres, and nothing else is."""

import numpy as np
import pytest

from stage1_extract.conditions.apply_condition import changed_poses, edits_of
from stage1_extract.conditions.camera.extrinsics import rigid_noise
from stage1_extract.conditions.catalogue.condition_catalogue import load_condition
from stage1_extract.conditions.draw import Draw
from stage1_extract.conditions.sample_edits import SampleEdits
from stage1_extract.nuscenes.records import Camera, SampleRecord
from tests.stage1_extract.conditions.frames import Scripted, record, records


def angle_deg(rotation: np.ndarray) -> float:
    return float(np.degrees(np.arccos((np.trace(rotation) - 1) / 2)))


def ego_motion(before: SampleRecord, old: Camera, new: Camera) -> np.ndarray:
    """Return what moved a camera, as seen in the ego frame."""
    poses = []
    for camera in (old, new):
        lidar_from_camera = np.eye(4)
        lidar_from_camera[:3, :3] = camera.rotation
        lidar_from_camera[:3, 3] = camera.translation_m
        poses.append(before.ego_from_lidar @ lidar_from_camera)
    moved: np.ndarray = poses[1] @ np.linalg.inv(poses[0])
    return moved


def test_a_quarter_of_the_range_about_a_known_axis() -> None:
    """Across 0: the axis is z; angle 0.25: 0.5 + 0.25 * 2 = 1 degree; sign above 0.5: forwards."""
    noise = rigid_noise(Scripted(0.0, 0.3, 0.25, 0.9, 0.0, 0.5, 1.0, 0.1, 0.9, 0.9))
    cosine, sine = np.cos(np.radians(1)), np.sin(np.radians(1))
    np.testing.assert_allclose(noise[:3, :3], [[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    np.testing.assert_allclose(noise[:3, 3], [-0.005, 0.0075, 0.01])
    backwards = rigid_noise(Scripted(0.0, 0.3, 0.25, 0.1, 0.0, 0.5, 1.0, 0.1, 0.9, 0.9))
    np.testing.assert_allclose(backwards[:3, :3], noise[:3, :3].T)


def test_angles_lie_between_half_a_degree_and_two_and_a_half_about_axes_of_any_direction() -> None:
    noises = [rigid_noise(Draw(0, "e", str(i), "CAM_FRONT")) for i in range(2000)]
    angles = np.array([angle_deg(noise[:3, :3]) for noise in noises])
    assert angles.min() >= 0.5 - 1e-6
    assert angles.max() <= 2.5 + 1e-6
    assert angles.mean() == pytest.approx(1.5, abs=0.05)
    shifts = np.abs([noise[:3, 3] for noise in noises])
    assert shifts.min() >= 0.005
    assert shifts.max() <= 0.01
    axes = np.array([noise[[2, 0, 1], [1, 2, 0]] - noise[[1, 2, 0], [2, 0, 1]] for noise in noises])
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    np.testing.assert_allclose(axes.mean(axis=0), 0, atol=0.06)
    np.testing.assert_allclose((axes**2).mean(axis=0), 1 / 3, atol=0.03)


def test_single_moves_each_camera_by_itself_and_all_moves_them_together() -> None:
    frame = record()
    motions = {}
    for name in ("extrinsics-single", "extrinsics-all"):
        changed = changed_poses(load_condition(name), frame)
        pairs = zip(frame.cameras, changed.cameras, strict=True)
        motions[name] = np.array([ego_motion(frame, old, new) for old, new in pairs])
    spread = {name: np.ptp(moved, axis=0).max() for name, moved in motions.items()}
    assert spread["extrinsics-all"] < 1e-12
    assert spread["extrinsics-single"] > 0.01
    for motion in np.concatenate([*motions.values()]):
        assert 0.5 <= angle_deg(motion[:3, :3]) <= 2.5


def test_the_error_is_another_for_each_sample_and_touches_no_sensor_and_no_other_field() -> None:
    condition = load_condition("extrinsics-all")
    first, second = (changed_poses(condition, frame) for frame in records(2))
    assert (first.cameras[0].rotation != second.cameras[0].rotation).any()
    assert edits_of(condition, records(2)) == [SampleEdits()] * 2
    before = record()
    for old, new in zip(before.cameras, first.cameras, strict=True):
        assert (old.name, old.file) == (new.name, new.file)
        assert old.intrinsics is new.intrinsics
    np.testing.assert_array_equal(first.ego_from_lidar, before.ego_from_lidar)
    assert (first.lidar_file, first.sweeps, first.token) == (before.lidar_file, (), before.token)
