"""The synthetic nuScenes is valid, reproducible, and both sensors agree with its boxes."""

import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from shared.config.classes import CAMERAS, CLASS_NAMES, LIDAR
from shared.errors import ConfigError, DatasetError
from shared.synthetic_nuscenes import SyntheticConfig, write_synthetic_nuscenes
from shared.synthetic_nuscenes.__main__ import main
from shared.synthetic_nuscenes.sensors.record_sample import record_sample
from shared.synthetic_nuscenes.stamp import STAMP_FILE, UNFINISHED_FILE
from shared.synthetic_nuscenes.world.object_classes import OBJECT_CLASSES

nuscenes = pytest.importorskip("nuscenes", reason="needs nuscenes-devkit")

SMALL = SyntheticConfig(
    scenes_train=1,
    scenes_val=1,
    samples_per_scene=3,
    sweep_rate_hz=20,
    azimuth_steps=360,
    render_stride_px=4,
)
SMALLEST = SyntheticConfig(
    scenes_train=1,
    scenes_val=0,
    samples_per_scene=1,
    azimuth_steps=64,
    render_stride_px=10,
)


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synthetic")
    write_synthetic_nuscenes(out, SMALL, workers=2)
    return out


@pytest.fixture(scope="session")
def tables(root: Path) -> Any:
    return nuscenes.NuScenes("v1.0-mini", str(root), verbose=False)


@pytest.fixture
def smallest(tmp_path: Path) -> Path:
    out = tmp_path / "smallest"
    write_synthetic_nuscenes(out, SMALLEST, workers=1)
    return out


def contents(root: Path) -> dict[str, bytes]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def cloud(tables: Any, sample: Any) -> np.ndarray:
    path = tables.get_sample_data_path(sample["data"][LIDAR])
    return np.fromfile(path, dtype=np.float32).reshape(-1, 5)


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


def test_point_counts_are_the_devkits(tables: Any) -> None:
    from nuscenes.utils.geometry_utils import points_in_box

    total = 0
    for sample in tables.sample:
        _, boxes, _ = tables.get_sample_data(sample["data"][LIDAR])
        points = cloud(tables, sample)[:, :3].T
        for box in boxes:
            annotated = tables.get("sample_annotation", box.token)["num_lidar_pts"]
            assert points_in_box(box, points).sum() == annotated
            total += annotated
    assert total > 1000


def test_intensity_tells_the_class(tables: Any) -> None:
    from nuscenes.eval.detection.utils import category_to_detection_name
    from nuscenes.utils.geometry_utils import points_in_box

    expected = {kind.name: kind.reflectivity for kind in OBJECT_CLASSES}
    checked = set()
    for sample in tables.sample:
        _, boxes, _ = tables.get_sample_data(sample["data"][LIDAR])
        points = cloud(tables, sample)
        assert set(np.unique(points[:, 4])) <= set(range(32))
        for box in boxes:
            inside = points[points_in_box(box, points[:, :3].T, wlh_factor=1.0)]
            inside = inside[inside[:, 2] > box.bottom_corners()[2].mean() + 0.1]  # no ground
            if len(inside) >= 5:
                name = category_to_detection_name(box.name)
                assert np.median(inside[:, 3]) == pytest.approx(expected[name], abs=10)
                checked.add(name)
    assert checked == set(CLASS_NAMES)


def test_no_point_lies_behind_a_box(tables: Any) -> None:
    """Steps along every ray instead of intersecting it, so that it shares no code."""
    from nuscenes.utils.geometry_utils import points_in_box

    sample = tables.sample[2]
    _, boxes, _ = tables.get_sample_data(sample["data"][LIDAR])
    points = cloud(tables, sample)[:, :3].T
    steps = np.linspace(0.0, 0.97, 300)
    along = (points[:, :, None] * steps).reshape(3, -1)
    for box in boxes:
        # The core of the box: the body is 5 cm smaller than the annotation on each side.
        assert not points_in_box(box, along, wlh_factor=0.7).any()


def pixels_within(image: np.ndarray, corners_px: np.ndarray) -> np.ndarray:
    """Return the (N, 3) pixels inside four faces of a projected box with these (2, 8) corners."""
    mask = Image.new("L", (1600, 900))
    for face in ((0, 1, 2, 3), (4, 5, 6, 7), (0, 1, 5, 4), (2, 3, 7, 6)):
        ImageDraw.Draw(mask).polygon([tuple(corners_px[:, corner]) for corner in face], fill=1)
    return image[np.asarray(mask) == 1].astype(float)


def classes_of_colours(pixels: np.ndarray) -> list[str]:
    """Return the nearest class by the ratio of the channels, which shading does not change."""
    paints = np.array([kind.colour_rgb for kind in OBJECT_CLASSES], dtype=float)
    paints /= paints.sum(axis=1, keepdims=True)
    ratios = pixels / pixels.sum(axis=1, keepdims=True)
    nearest = ((ratios[:, None] - paints) ** 2).sum(-1).argmin(-1)
    return [OBJECT_CLASSES[index].name for index in nearest]


def test_a_fully_visible_object_shows_the_colour_of_its_class(tables: Any) -> None:
    from nuscenes.eval.detection.utils import category_to_detection_name
    from nuscenes.utils.geometry_utils import BoxVisibility, view_points

    right, wrong = Counter[str](), Counter[str]()
    readings = [sample["data"][channel] for sample in tables.sample for channel in CAMERAS]
    for token in readings:
        path, boxes, intrinsic = tables.get_sample_data(token, box_vis_level=BoxVisibility.ALL)
        with Image.open(path) as file:
            image = np.asarray(file)
        for box in boxes:
            level = tables.get("sample_annotation", box.token)["visibility_token"]
            moves = (
                np.linalg.norm(tables.box_velocity(box.token)) > 0
            )  # exposed a little earlier than annotated
            if level != "4" or moves or box.center[2] > 25:
                continue
            # Shrunk, so that background and JPEG artefacts at the edge do not count.
            corners_px = view_points(box.corners(wlh_factor=0.8), intrinsic, normalize=True)[:2]
            pixels = pixels_within(image, corners_px)
            pixels = pixels[np.ptp(pixels, axis=1) > 40]  # not the grey of glass, tyres, stripes
            name = category_to_detection_name(box.name)
            share = np.mean([nearest == name for nearest in classes_of_colours(pixels)])
            (right if share > 0.6 else wrong)[name] += 1
    assert sum(right.values()) > 20
    assert sum(wrong.values()) <= 0.1 * sum(right.values()), (right, wrong)


def test_all_visibility_levels_occur_and_the_hidden_hold_few_points(tables: Any) -> None:
    shares = {level: [0, 0] for level in "1234"}
    for row in tables.sample_annotation:
        shares[row["visibility_token"]][0] += 1
        shares[row["visibility_token"]][1] += row["num_lidar_pts"]
    assert all(count for count, _ in shares.values())
    assert shares["1"][1] / shares["1"][0] < 0.2 * shares["4"][1] / shares["4"][0]


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


def test_the_same_seed_gives_the_same_bytes_with_any_number_of_processes(tmp_path: Path) -> None:
    two = replace(SMALLEST, scenes_train=2)
    write_synthetic_nuscenes(tmp_path / "here", two, workers=1)
    write_synthetic_nuscenes(tmp_path / "pool", two, workers=2)
    assert contents(tmp_path / "here") == contents(tmp_path / "pool")


def test_a_different_seed_gives_different_bytes_and_tokens(smallest: Path, tmp_path: Path) -> None:
    reseeded = replace(SMALLEST, seed=1)
    write_synthetic_nuscenes(tmp_path / "reseeded", reseeded, workers=1)
    first, second = contents(smallest), contents(tmp_path / "reseeded")
    assert first.keys() == second.keys()
    same = {name for name in first if first[name] == second[name]}
    assert same == {"maps/synthetic-ground.png", "v1.0-mini/visibility.json"}


def test_a_second_call_changes_nothing_and_says_so(
    smallest: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = {path: path.stat().st_mtime_ns for path in smallest.rglob("*")}
    with caplog.at_level("INFO"):
        write_synthetic_nuscenes(smallest, SMALLEST)
    assert "nothing to do" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in smallest.rglob("*")} == before


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DatasetError, match=r"not empty.*nothing was written.*new or empty"):
        write_synthetic_nuscenes(tmp_path, SMALLEST)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_set_of_a_different_seed_is_refused_naming_the_difference(
    smallest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(smallest)
    assert main([str(smallest), "--seed", "7"]) == 1
    message = capsys.readouterr().err
    assert "seed 0 there, 7 requested" in message
    assert "Choose another folder, or remove this one" in message
    assert contents(smallest) == before


def test_an_interrupted_set_is_recognised_and_written_again(
    smallest: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []

    def die_at_the_second(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return record_sample(*arguments)

    out = tmp_path / "cut"
    two = replace(SMALLEST, scenes_train=2)
    with monkeypatch.context() as patch:
        patch.setattr("shared.synthetic_nuscenes.write.record_sample", die_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            write_synthetic_nuscenes(out, two, workers=1)
    assert (out / UNFINISHED_FILE).exists()
    assert not (out / STAMP_FILE).exists()
    with pytest.raises(DatasetError, match="scenes_train 2 there, 1 requested"):
        write_synthetic_nuscenes(out, SMALLEST)
    write_synthetic_nuscenes(out, two, workers=1)
    assert "unfinished" in caplog.text
    assert (out / STAMP_FILE).exists()
    assert not (out / UNFINISHED_FILE).exists()


def test_a_set_that_lost_files_is_refused_with_the_remedy(smallest: Path) -> None:
    shutil.rmtree(smallest / "samples" / "CAM_BACK")
    with pytest.raises(DatasetError, match=r"was complete with.*Remove the folder and run again"):
        write_synthetic_nuscenes(smallest, SMALLEST)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("scenes_train", 9, r"scenes_train is 9; it must be in \[1, 8\]"),
        ("sweep_rate_hz", 5, "multiple of the keyframe rate, 2 Hz"),
        ("render_stride_px", 3, "must divide 1600 and 900"),
    ],
)
def test_a_number_out_of_range_is_refused(field: str, value: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SyntheticConfig(**{field: value})


def test_the_command_line_options_are_these(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    sizes = {"--scenes-train", "--scenes-val", "--samples-per-scene"}
    assert options - {"--help"} == sizes | {
        "--seed",
        "--sweep-rate-hz",
        "--azimuth-steps",
        "--workers",
    }
