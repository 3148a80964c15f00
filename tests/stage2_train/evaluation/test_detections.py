"""Detections reach nuScenes' frame, names and file unharmed."""

import json
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from cache.reader import CachedFeatures
from shared.config.classes import CLASS_NAMES
from shared.config.preset_catalogue import tiny
from shared.data.features import NO_ANNOTATIONS, Frame
from shared.model.box_coder import Detections
from stage2_train.evaluation.detections import (
    MOVING_MPS,
    RANGE_M,
    _attribute,
    to_nuscenes,
    write_results,
)


class Entries(list[dict[str, Any]]):
    """Entries that a weak reference can be made to."""


QUARTER_TURN = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


def frame_at(ego_from_lidar: np.ndarray, global_from_ego: np.ndarray) -> Frame:
    return Frame(
        token="sample",
        scene="scene",
        timestamp_us=1,
        variant=0,
        img_from_lidar=np.zeros((6, 4, 4)),
        ego_from_lidar=ego_from_lidar,
        global_from_ego=global_from_ego,
        annotations=NO_ANNOTATIONS,
    )


def detected(*boxes: tuple[float, ...], labels: tuple[int, ...]) -> Detections:
    return Detections(
        boxes_lidar=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 9),
        scores=torch.linspace(0.9, 0.5, len(labels)),
        labels=torch.tensor(labels, dtype=torch.int64),
        queries=torch.arange(len(labels)),
    )


def test_a_box_is_carried_through_both_poses() -> None:
    ego, world = np.eye(4), np.eye(4)
    ego[:3, :3], ego[:3, 3] = QUARTER_TURN, (1.0, 0.0, 2.0)
    world[:3, 3] = (100.0, 200.0, 0.0)
    # 10 m along the LiDAR's x, heading along it, moving at 3 m/s
    box = (10.0, 0.0, -1.0, 4.0, 2.0, 1.5, 0.0, 3.0, 0.0)

    (entry,) = to_nuscenes(detected(box, labels=(0,)), frame_at(ego, world))

    assert entry["translation"] == pytest.approx([101.0, 210.0, 1.0])
    assert entry["size"] == pytest.approx([2.0, 4.0, 1.5])  # width, length, height
    assert entry["velocity"] == pytest.approx([0.0, 3.0], abs=1e-6)
    half = np.sqrt(0.5)
    assert entry["rotation"] == pytest.approx([half, 0.0, 0.0, half])
    assert entry["detection_name"] == "car"
    assert entry["attribute_name"] == "vehicle.moving"


@pytest.mark.parametrize(
    ("label", "speed_mps", "attribute"),
    [
        (0, 0.1, "vehicle.parked"),
        (3, 0.1, "vehicle.stopped"),
        (3, 0.3, "vehicle.moving"),
        (6, 0.3, "cycle.with_rider"),
        (7, 0.1, "cycle.without_rider"),
        (8, 0.1, "pedestrian.standing"),
        (8, 0.3, "pedestrian.moving"),
        (5, 0.3, ""),
    ],
)
def test_the_attribute_follows_class_and_speed(
    label: int, speed_mps: float, attribute: str
) -> None:
    box = (1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0, speed_mps, 0.0)

    (entry,) = to_nuscenes(detected(box, labels=(label,)), frame_at(np.eye(4), np.eye(4)))

    assert entry["attribute_name"] == attribute


def test_a_box_beyond_its_class_range_is_left_out() -> None:
    far = (0.0, 31.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0)  # barriers count up to 30 m, cars to 50

    entries = to_nuscenes(detected(far, far, labels=(5, 0)), frame_at(np.eye(4), np.eye(4)))

    assert [entry["detection_name"] for entry in entries] == ["car"]


@pytest.mark.parametrize(
    ("position_m", "is_within"),
    [
        ((28.5, 0.0, 0.0), True),  # 29.7 m from the ego
        ((29.5, 0.0, 0.0), False),
        ((-30.5, 0.0, 0.0), True),
        ((-31.5, 0.0, 0.0), False),
        ((21.0, 21.0, 0.0), False),  # 29.7 m from the LiDAR, 30.6 m from the ego
        ((28.5, 0.0, 20.0), True),  # height does not count
    ],
)
def test_the_class_range_is_measured_along_the_ground_from_the_ego(
    position_m: tuple[float, float, float], is_within: bool
) -> None:
    """The LiDAR is 1.2 m ahead of the ego's origin and 1.8 m above it; barriers count to 30 m."""
    ego, world = np.eye(4), np.eye(4)
    ego[:3, 3] = (1.2, 0.0, 1.8)
    world[:3, 3] = (600.0, 1600.0, 0.0)
    box = (*position_m, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0)

    entries = to_nuscenes(detected(box, labels=(5,)), frame_at(ego, world))

    assert len(entries) == is_within


def test_speed_counts_in_any_direction() -> None:
    for velocity in ((0.3, 0.0), (0.0, 0.3), (-0.3, 0.0), (0.15, -0.15)):
        box = (1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0, *velocity)
        (entry,) = to_nuscenes(detected(box, labels=(0,)), frame_at(np.eye(4), np.eye(4)))
        assert entry["attribute_name"] == "vehicle.moving"


def test_a_frame_without_detections_gives_an_empty_list() -> None:
    assert to_nuscenes(detected(labels=()), frame_at(np.eye(4), np.eye(4))) == []


def entries_box_by_box(detections: Detections, frame: Frame) -> list[dict[str, Any]]:
    """Return what `to_nuscenes` does, from one box at a time."""
    ego, world = frame.ego_from_lidar, frame.global_from_ego
    boxes = detections.boxes_lidar.double().numpy()
    turn = Rotation.from_matrix(world[:3, :3] @ ego[:3, :3])
    centres_ego = boxes[:, :3] @ ego[:3, :3].T + ego[:3, 3]
    centres = centres_ego @ world[:3, :3].T + world[:3, 3]
    velocities = np.pad(boxes[:, 7:9], ((0, 0), (0, 1))) @ (world[:3, :3] @ ego[:3, :3]).T
    entries = []
    for i, box in enumerate(boxes):
        name = CLASS_NAMES[int(detections.labels[i])]
        if np.linalg.norm(centres_ego[i, :2]) > RANGE_M[name]:
            continue
        x, y, z, w = (turn * Rotation.from_rotvec([0.0, 0.0, box[6]])).as_quat()
        entries.append(
            {
                "sample_token": frame.token,
                "translation": centres[i].tolist(),
                "size": [box[4], box[3], box[5]],
                "rotation": [w, x, y, z],
                "velocity": velocities[i, :2].tolist(),
                "detection_name": name,
                "detection_score": float(detections.scores[i]),
                "attribute_name": _attribute(name, float(np.linalg.norm(velocities[i, :2]))),
            }
        )
    return entries


def test_all_boxes_of_a_frame_at_once_are_what_they_are_one_by_one(tiny_store: Path) -> None:
    store = CachedFeatures(tiny_store)
    generator = torch.Generator().manual_seed(0)
    left_out = 0
    for frame in map(store.frame, store.tokens):
        boxes = 50.0 * torch.rand(300, 9, generator=generator) - 25.0
        boxes[:, 3:6] = boxes[:, 3:6].abs() / 5.0
        boxes[:, 7:9] *= MOVING_MPS / 25.0
        boxes[:, :2] *= 1.6  # up to 56 m from the LiDAR
        labels = torch.randint(10, (300,), generator=generator)
        own = detected(*boxes.tolist(), labels=tuple(labels.tolist()))

        entries = to_nuscenes(own, frame)

        assert entries == entries_box_by_box(own, frame)
        left_out += 300 - len(entries)
    assert 0 < left_out < 600


def test_the_result_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_results(path, [("a", [])], tiny())

    write_results(path, [("b", [])], tiny())

    content = json.loads(path.read_text())
    assert content["results"] == {"b": []}
    assert content["meta"]["use_lidar"] is True
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]


def test_a_score_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    results = [("a", []), ("b", [{"detection_score": float("nan")}])]
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_results(tmp_path / "results.json", results, tiny())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("samples", [0, 1, 3])
def test_the_result_file_is_one_json_document_of_all_samples(tmp_path: Path, samples: int) -> None:
    path = tmp_path / "results.json"
    box = (1.0, 2.0, 0.1, 4.0, 2.0, 1.5, 0.7, 3.0, 0.0)
    entries = to_nuscenes(detected(box, box, labels=(0, 8)), frame_at(np.eye(4), np.eye(4)))
    results = {f'sa"mple {i}': entries[:i] for i in range(samples)}

    write_results(path, iter(results.items()), tiny())

    text = path.read_text()
    assert json.loads(text)["results"] == results
    assert text == json.dumps(json.loads(text))


def test_the_entries_of_a_sample_are_written_before_those_of_the_next_are_made(
    tmp_path: Path,
) -> None:
    def results() -> Iterator[tuple[str, list[dict[str, Any]]]]:
        for token in "abc":
            entries = Entries([{"sample_token": token}])
            alive.append(weakref.ref(entries))
            yield token, entries
            del entries
            assert sum(entries_of() is not None for entries_of in alive) <= 1

    alive: list[weakref.ref[Entries]] = []
    write_results(tmp_path / "results.json", results(), tiny())
    assert len(alive) == 3
