"""The synthetic nuScenes is a valid nuScenes: nuscenes-devkit reads and evaluates it."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shared.config.classes import CAMERAS, CLASS_NAMES, LIDAR
from shared.synthetic_nuscenes import SyntheticConfig
from tests.shared.synthetic_nuscenes.small_sets import contents


def test_the_tables_name_every_file_and_no_other(tables: Any, root: Path) -> None:
    named = {row["filename"] for row in tables.sample_data} | {tables.map[0]["filename"]}
    stored = {
        name for name in contents(root) if name.split("/")[0] in ("samples", "sweeps", "maps")
    }
    assert named == stored
    with Image.open(tables.get_sample_data_path(tables.sample[0]["data"]["CAM_BACK"])) as image:
        assert image.size == (1600, 900)
    assert set(tables.sample[0]["data"]) == {*CAMERAS, LIDAR}


def test_scenes_carry_the_names_of_the_devkits_mini_splits(tables: Any) -> None:
    from nuscenes.utils.splits import mini_train, mini_val

    assert [scene["name"] in mini_train for scene in tables.scene] == [True, False]
    assert tables.scene[1]["name"] in mini_val
    largest = SyntheticConfig(scenes_train=8, scenes_val=2).scene_names
    assert (set(largest[:8]), set(largest[8:])) == (set(mini_train), set(mini_val))


@pytest.mark.parametrize("table", ["sample", "sample_data", "sample_annotation"])
def test_previous_and_next_point_at_each_other(tables: Any, table: str) -> None:
    rows = getattr(tables, table)
    linked = [row for row in rows if row["next"]]
    assert linked
    assert all(tables.get(table, row["next"])["prev"] == row["token"] for row in linked)
    assert len(linked) == sum(row["prev"] != "" for row in rows)


def test_ten_sweeps_precede_a_keyframe_and_belong_to_the_next_keyframe(tables: Any) -> None:
    second = tables.get("sample", tables.sample[0]["next"])
    row = tables.get("sample_data", second["data"][LIDAR])
    assert row["timestamp"] == second["timestamp"]
    flags = []
    for step in range(1, 11):
        row = tables.get("sample_data", row["prev"])
        flags.append(row["is_key_frame"])
        assert second["timestamp"] - row["timestamp"] == step * 50_000
        owner = tables.sample[0] if step == 10 else second
        assert row["sample_token"] == owner["token"]
    assert flags == [False] * 9 + [True]
    assert row["prev"] == ""  # the log starts with the first keyframe


def test_cameras_fire_within_50_ms_of_the_keyframe_from_their_own_ego_poses(tables: Any) -> None:
    sample = tables.sample[1]
    rows = [tables.get("sample_data", sample["data"][channel]) for channel in CAMERAS]
    lags_us = [sample["timestamp"] - row["timestamp"] for row in rows]
    assert len(set(lags_us)) == 6
    assert min(lags_us) >= 0
    assert max(lags_us) <= 50_000
    places = {tuple(tables.get("ego_pose", row["ego_pose_token"])["translation"]) for row in rows}
    assert len(places) == 6


def test_cameras_point_where_their_names_say_and_the_lidar_along_its_y(tables: Any) -> None:
    from pyquaternion import Quaternion

    def axis_in_ego(channel: str, axis: list[float]) -> np.ndarray:
        row = tables.get("sample_data", tables.sample[0]["data"][channel])
        sensor = tables.get("calibrated_sensor", row["calibrated_sensor_token"])
        return Quaternion(sensor["rotation"]).rotate(np.array(axis))

    forward = [0.0, 0.0, 1.0]
    assert axis_in_ego("CAM_FRONT", forward)[0] > 0.99
    assert axis_in_ego("CAM_FRONT_LEFT", forward)[1] > 0.7
    assert axis_in_ego("CAM_BACK_RIGHT", forward)[1] < -0.7
    assert axis_in_ego("CAM_FRONT", [0.0, 1.0, 0.0])[2] < -0.99  # y is down
    assert axis_in_ego(LIDAR, [0.0, 1.0, 0.0])[0] > 0.99
    assert axis_in_ego(LIDAR, [1.0, 0.0, 0.0])[1] < -0.99


def test_every_class_stands_in_every_scene_with_an_attribute_that_fits_its_speed(
    tables: Any,
) -> None:
    from nuscenes.eval.detection.utils import category_to_detection_name

    names: dict[str, set[str]] = {}
    for row in tables.sample_annotation:
        scene = tables.get("sample", row["sample_token"])["scene_token"]
        name = category_to_detection_name(row["category_name"])
        names.setdefault(scene, set()).add(name)
        attributes = [tables.get("attribute", t)["name"] for t in row["attribute_tokens"]]
        if name in ("barrier", "traffic_cone"):
            assert attributes == []
            continue
        moves = float(np.linalg.norm(tables.box_velocity(row["token"]))) > 0.1
        assert (attributes[0].split(".")[1] in ("moving", "with_rider")) == moves
    assert list(names.values()) == [set(CLASS_NAMES)] * 2


def test_no_two_boxes_overlap(tables: Any) -> None:
    from nuscenes.utils.geometry_utils import points_in_box

    for sample in tables.sample:
        boxes = [tables.get_box(token) for token in sample["anns"]]
        for first in boxes:
            elsewhere = [box.bottom_corners() for box in boxes if box is not first]
            corners = np.concatenate(elsewhere, axis=1) + np.array([[0.0], [0.0], [0.01]])
            assert not points_in_box(first, corners).any()
            assert first.bottom_corners()[2] == pytest.approx(0.0, abs=1e-9)  # on the ground


def test_ground_truth_as_prediction_scores_one(tables: Any, tmp_path: Path) -> None:
    from nuscenes.eval.common.config import config_factory
    from nuscenes.eval.common.loaders import load_gt
    from nuscenes.eval.detection.data_classes import DetectionBox
    from nuscenes.eval.detection.evaluate import DetectionEval

    truth = load_gt(tables, "mini_val", DetectionBox)
    for box in truth.all:
        box.detection_score = 1.0
        box.velocity = tuple(box.velocity)
    modality = dict.fromkeys(
        ("use_camera", "use_lidar", "use_radar", "use_map", "use_external"), False
    )
    result = tmp_path / "result.json"
    result.write_text(json.dumps({"meta": modality, "results": truth.serialize()}))
    evaluation = DetectionEval(
        tables,
        config_factory("detection_cvpr_2019"),
        str(result),
        "mini_val",
        output_dir=str(tmp_path),
        verbose=False,
    )
    metrics, _ = evaluation.evaluate()
    evaluated = Counter(box.detection_name for box in evaluation.gt_boxes.all)
    assert set(evaluated) == set(CLASS_NAMES)
    assert metrics.mean_dist_aps == pytest.approx(dict.fromkeys(CLASS_NAMES, 1.0), abs=1e-6)
    assert metrics.tp_errors["trans_err"] == pytest.approx(0.0, abs=1e-6)
