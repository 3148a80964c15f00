"""The conditions of an evaluation: absent sensors are null features, and names are not shared."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cache.coordination.null_store import null_path
from cache.reader import CachedFeatures
from shared.config.classes import CAMERAS, LIDAR
from shared.config.preset_catalogue import tiny
from shared.data.sensor_drop import without
from shared.errors import CacheError, ConfigError
from stage2_train.data.dataset import StoreDataset
from stage2_train.data.loader import evaluation_batches
from stage2_train.evaluation.conditions.judged_condition import (
    CLEAN_SAMPLES,
    judged_conditions,
)


@pytest.fixture(scope="module")
def store(tiny_store: Path) -> CachedFeatures:
    return CachedFeatures(tiny_store)


def test_every_drop_becomes_its_conditions_once(store: CachedFeatures) -> None:
    wanted = judged_conditions(["each-camera", "lidar", "lidar"], {}, store)

    names = [condition.name for condition in wanted]
    assert names == ["clean", *(f"no_{camera}" for camera in CAMERAS), "no_lidar"]
    assert judged_conditions([], {}, store) == [CLEAN_SAMPLES]


def test_samples_are_those_of_sensor_drop(store: CachedFeatures) -> None:
    features = store.read(store.tokens)[1]
    expected = {
        "clean": features,
        "no_lidar": without(features, store.null, (LIDAR,)),
        "no_cameras": without(features, store.null, CAMERAS),
        "no_CAM_BACK": without(features, store.null, ("CAM_BACK",)),
    }
    for condition in judged_conditions(["lidar", "cameras", "each-camera"], {}, store):
        if condition.name not in expected:
            continue
        dataset = StoreDataset(store, store.tokens)
        _, batch, *_ = evaluation_batches(dataset, 1, workers=0, absent=condition.absent)
        for name, values in expected[condition.name].maps.items():
            np.testing.assert_array_equal(batch.maps[name][0], values, err_msg=condition.name)


def test_the_results_say_which_sensors_were_used(store: CachedFeatures) -> None:
    used = {
        condition.name: condition.used(tiny())
        for condition in judged_conditions(["lidar", "cameras", "each-camera"], {}, store)
    }

    assert used["clean"] == used["no_CAM_FRONT"] == tiny()
    assert used["no_lidar"] == replace(tiny(), lidar=None)
    assert used["no_cameras"] == replace(tiny(), camera=None)


def test_a_store_without_null_features_is_refused(tiny_store: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.zarr"
    shutil.copytree(tiny_store, copy)
    shutil.rmtree(null_path(copy))

    assert judged_conditions([], {}, CachedFeatures(copy)) == [CLEAN_SAMPLES]
    with pytest.raises(CacheError, match="no null features, so no sensor can be dropped"):
        judged_conditions(["lidar"], {}, CachedFeatures(copy))


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
        judged_conditions([drop], {}, single)


def test_a_detector_of_cameras_can_lose_one() -> None:
    single = SimpleNamespace(path=Path("one.zarr"), preset=replace(tiny(), lidar=None), null=None)

    assert len(judged_conditions(["each-camera"], {}, single)) == 1 + len(CAMERAS)


def delta(name: str, family: str, severity: int | None) -> SimpleNamespace:
    about = SimpleNamespace(name=name, family=family, severity=severity, source="a test")
    return SimpleNamespace(path=Path(f"val.{name}.zarr"), condition=about)


def test_delta_stores_come_last_by_family_and_severity(store: CachedFeatures) -> None:
    deltas = {
        "beams-4": delta("beams-4", "beams", 3),
        "beams-16": delta("beams-16", "beams", 1),
        "fov-60": delta("fov-60", "fov", None),
    }

    clean, no_lidar, *others = judged_conditions(["lidar"], deltas, store)

    assert (clean, no_lidar.name) == (CLEAN_SAMPLES, "no_lidar")
    assert [condition.stored for condition in others] == ["beams-16", "beams-4", "fov-60"]
    assert [c.key for c in others] == [("beams", 1), ("beams", 3), ("fov-60", None)]
    assert others[0].used(tiny()) == tiny()


@pytest.mark.parametrize("name", ["clean", "baseline", "pictures", "no_lidar"])
def test_a_name_of_something_else_is_refused(store: CachedFeatures, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"val\.{name}\.zarr: its condition is called {name}"):
        judged_conditions(["lidar"], {name: delta(name, "beams", 1)}, store)


def test_two_conditions_of_one_severity_are_refused(store: CachedFeatures) -> None:
    deltas = {name: delta(name, "beams", 3) for name in ("beams-4-even", "beams-4-odd")}

    with pytest.raises(ConfigError, match=r"beams-4-even and beams-4-odd both claim severity 3"):
        judged_conditions([], deltas, store)
