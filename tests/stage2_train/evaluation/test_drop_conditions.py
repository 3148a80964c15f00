"""With absent sensors a batch has exactly the null features, condition by condition."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from stage2_train.evaluation.drop_conditions import FULL, conditions, write_comparison

from cache.coordination.null_store import null_path
from cache.reader import CachedFeatures
from shared.config.classes import CAMERAS
from shared.config.preset_catalogue import tiny
from shared.data.sensor_drop import without_cameras, without_lidar
from shared.errors import CacheError, ConfigError
from stage2_train.data.dataset import StoreDataset
from stage2_train.data.loader import evaluation_batches


@pytest.fixture(scope="module")
def store(tiny_store: Path) -> CachedFeatures:
    return CachedFeatures(tiny_store)


def test_every_drop_becomes_its_conditions_once(store: CachedFeatures) -> None:
    wanted = conditions(["each-camera", "lidar", "lidar"], store)

    names = [condition.name for condition in wanted]
    assert names == ["full", *(f"no_{camera}" for camera in CAMERAS), "no_lidar"]
    assert conditions([], store) == [FULL]


def test_samples_are_those_of_sensor_drop(store: CachedFeatures) -> None:
    features = store.read(store.tokens)[1]
    expected = {
        "full": features,
        "no_lidar": without_lidar(features, store.null),
        "no_cameras": without_cameras(features, store.null),
        "no_CAM_BACK": without_cameras(features, store.null, ["CAM_BACK"]),
    }
    for condition in conditions(["lidar", "cameras", "each-camera"], store):
        if condition.name not in expected:
            continue
        dataset = StoreDataset(store, store.tokens)
        _, batch, *_ = evaluation_batches(dataset, 1, workers=0, absent=condition.absent)
        for name, values in expected[condition.name].maps.items():
            np.testing.assert_array_equal(batch.maps[name][0], values, err_msg=condition.name)


def test_the_results_say_which_sensors_were_used(store: CachedFeatures) -> None:
    used = {
        condition.name: condition.used(tiny())
        for condition in conditions(["lidar", "cameras", "each-camera"], store)
    }

    assert used["full"] == used["no_CAM_FRONT"] == tiny()
    assert used["no_lidar"] == replace(tiny(), lidar=None)
    assert used["no_cameras"] == replace(tiny(), camera=None)


def test_a_store_without_null_features_is_refused(tiny_store: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.zarr"
    shutil.copytree(tiny_store, copy)
    shutil.rmtree(null_path(copy))

    assert conditions([], CachedFeatures(copy)) == [FULL]
    with pytest.raises(CacheError, match="no null features, so no sensor can be dropped"):
        conditions(["lidar"], CachedFeatures(copy))


@pytest.mark.parametrize(
    ("absent", "drop", "message"),
    [
        ("camera", "lidar", r"only features of LiDAR .* nothing would be left"),
        ("camera", "cameras", r"only features of LiDAR .* it has none"),
        ("camera", "each-camera", r"only features of LiDAR .* it has none"),
        ("lidar", "lidar", r"only features of the cameras .* it has none"),
        ("lidar", "cameras", r"only features of the cameras .* nothing would be left"),
    ],
)
def test_a_single_sensor_has_nothing_to_drop(absent: str, drop: str, message: str) -> None:
    single = SimpleNamespace(path=Path("one.zarr"), preset=replace(tiny(), **{absent: None}))

    with pytest.raises(ConfigError, match=rf"--drop {drop}: one\.zarr holds {message}"):
        conditions([drop], single)


def test_a_detector_of_cameras_can_lose_one() -> None:
    single = SimpleNamespace(path=Path("one.zarr"), preset=replace(tiny(), lidar=None), null=None)

    assert len(conditions(["each-camera"], single)) == 1 + len(CAMERAS)


def test_the_comparison_holds_every_condition(tmp_path: Path) -> None:
    errors = dict.fromkeys(("trans_err", "scale_err", "orient_err", "vel_err", "attr_err"), 0.25)
    summaries = {
        name: {"mean_ap": ap, "nd_score": nds, "tp_errors": errors, "coverage": "3 samples"}
        for name, ap, nds in (("full", 0.5, 0.6), ("no_lidar", 0.125, 0.15))
    }

    write_comparison(tmp_path, summaries)

    entries = json.loads((tmp_path / "sensor_drop.json").read_text())["conditions"]
    assert entries["no_lidar"]["mAP"] == 0.125
    assert entries["no_lidar"]["NDS_kept"] == pytest.approx(0.25)
    text = (tmp_path / "sensor_drop.md").read_text()
    assert "| no_lidar | 0.1250 | 0.1500 | 0.2500 " in text
    assert "| 25.0% |" in text
    assert "3 samples" in text


def test_without_a_detection_the_kept_share_is_undefined(tmp_path: Path) -> None:
    errors = dict.fromkeys(("trans_err", "scale_err", "orient_err", "vel_err", "attr_err"), 1.0)
    nothing = {"mean_ap": 0.0, "nd_score": 0.0, "tp_errors": errors, "coverage": "3 samples"}

    write_comparison(tmp_path, {"full": nothing, "no_lidar": nothing})

    entries = json.loads((tmp_path / "sensor_drop.json").read_text())["conditions"]
    assert entries["no_lidar"]["NDS_kept"] is None
