"""A LiDAR or cameras alone pass through everything: extraction, parity, training, evaluation."""

import json
from pathlib import Path

import pytest

from cache.reader import CachedFeatures
from shared.config.classes import CAMERAS
from stage1_extract.__main__ import main as extract_features
from stage1_extract.check_parity import main as check_parity
from stage1_extract.plot_samples import main as plot_samples
from stage2_train.__main__ import main as train_stage2
from stage2_train.evaluate import main as evaluate_stage2
from tests.pictures import decoded

PRESETS = """
from dataclasses import replace
from shared.config.preset_catalogue import tiny

def lidar_only():
    return replace(tiny(), name="lidar_only", camera=None)

def cameras_only():
    branch = replace(tiny().camera, backbone="vovnet99", base_channels=4)
    return replace(tiny(), name="cameras_only", camera=branch, lidar=None)
"""


@pytest.mark.parametrize(
    ("preset", "sensor"), [("lidar_only", "lidar"), ("cameras_only", "camera")]
)
def test_a_single_sensor_goes_all_the_way(
    synthetic_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    preset: str,
    sensor: str,
) -> None:
    file, store, run = tmp_path / "mine.py", tmp_path / "one.zarr", tmp_path / "run"
    file.write_text(PRESETS)
    root = ["--nuscenes", str(synthetic_root)]
    where = [*root, "--version", "v1.0-mini", "--split", "mini_val"]

    assert extract_features([f"{file}:{preset}", *where, "--store", str(store)]) == 0
    assert check_parity([str(store), *root, "--samples", "2"]) == 0, capsys.readouterr()
    train = [str(store), "--out", str(run), "--recipe", "first_steps", "--stop-after", "2"]
    assert train_stage2(train) == 0
    assert evaluate_stage2([str(store), str(run), "--out", str(run / "val")]) == 0
    plots = [str(store), *root, "--samples", "1", "--out", str(tmp_path / "pictures")]
    assert plot_samples(plots) == 0

    pictures = list((tmp_path / "pictures").rglob("*.png"))
    assert pictures
    for picture in pictures:
        decoded(picture)

    cached = CachedFeatures(store)
    (features, *_) = cached.read(cached.tokens[:1])
    assert {name.partition("/")[0] for name in features.maps} == {sensor}
    views = 0 if sensor == "lidar" else len(CAMERAS)
    assert features.frame.img_from_lidar.shape == (views, 4, 4)
    meta = json.loads((run / "val" / "results_nusc.json").read_text())["meta"]
    assert (meta["use_lidar"], meta["use_camera"]) == (sensor == "lidar", sensor == "camera")
