"""AQR's weights are plotted with and without sensors, and saved to be plotted over photos."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cache.reader import CachedFeatures
from shared.config.aqr_config import AqrConfig
from shared.config.classes import LIDAR
from shared.config.preset_catalogue import tiny
from shared.data.batch import collate
from shared.data.sensor_drop import NOTHING, without
from shared.errors import ConfigError
from shared.model.detector import CmtDetector
from shared.model.initial_detector import fresh_detector
from stage1_extract.plot_samples import main as plot_samples
from stage2_train.__main__ import main as train_stage2
from stage2_train.evaluation.sensor_weights_table import sensor_weights_table
from stage2_train.plot_sensor_weights import main as plot_sensor_weights_command
from stage2_train.plot_sensor_weights import plot_sensor_weights
from tests.pictures import decoded

QUERIES = tiny().head.queries
SLOW_TO_DRAW = ("no cameras", "no CAM_FRONT")  # two of four conditions are enough over photos
DOTS_PX = 100  # pixels by which two pictures differ if their dots have other colours


@pytest.fixture
def store(tiny_store: Path) -> CachedFeatures:
    return CachedFeatures(tiny_store)


@pytest.fixture
def detector(store: CachedFeatures) -> CmtDetector:
    """With weights that differ from query to query."""
    return fresh_detector(store.preset, store.cut, seed=0, aqr=AqrConfig(start="upstream"))


def test_the_table_holds_the_detectors_weights_with_and_without_a_sensor(
    store: CachedFeatures, detector: CmtDetector
) -> None:
    tokens = store.tokens[1:]

    table = sensor_weights_table(detector, store, tokens, shown=(NOTHING, (LIDAR,)))

    (complete,) = store.read(tokens[:1])
    samples = (complete, without(complete, store.null, (LIDAR,)))
    for weights, features in zip(table.conditions, samples, strict=True):
        with torch.inference_mode():
            outputs = detector(collate([features]))
        np.testing.assert_allclose(weights.weights[0], outputs.sensor_weights[0], atol=1e-5)
        np.testing.assert_allclose(
            weights.distance_m[0], outputs.center_xy_m[-1, 0].norm(dim=-1), rtol=1e-4
        )
    assert [weights.condition for weights in table.conditions] == ["all", "no lidar"]
    assert np.abs(table.conditions[0].weights - table.conditions[1].weights).max() > 1e-3


def test_a_query_has_pixels_only_in_the_cameras_that_see_it(
    store: CachedFeatures, detector: CmtDetector
) -> None:
    table = sensor_weights_table(detector, store, store.tokens[:1], shown=(NOTHING,))

    camera = store.preset.camera
    assert camera is not None
    visible = ~np.isnan(table.pixels).any(axis=-1)  # (1, V, Q)
    matrices = store.frame(store.tokens[0]).img_from_lidar
    points = np.concatenate([table.references_m, np.ones((QUERIES, 1))], axis=1)
    projected = np.einsum("vdc,qc->vqd", matrices, points)
    u_px, v_px = projected[..., 0] / projected[..., 2], projected[..., 1] / projected[..., 2]
    inside = (u_px >= 0) & (u_px < camera.width_px) & (v_px >= 0) & (v_px < camera.height_px)
    np.testing.assert_array_equal(visible[0], inside & (projected[..., 2] > 0))
    np.testing.assert_allclose(table.pixels[0][visible[0]][:, 0], u_px[visible[0]], atol=1e-2)


def test_the_command_plots_and_its_file_is_plotted_over_photos(
    tiny_store: Path, synthetic_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for without_weights in ("plot_scene", "plot_features"):
        monkeypatch.setattr(f"stage1_extract.plot_samples.{without_weights}", lambda *_: None)
    recipe = tmp_path / "recipe.py"
    recipe.write_text(
        "from dataclasses import replace\n"
        "from shared.config.aqr_config import AqrConfig\n"
        "from stage2_train.recipes.recipe import Recipe\n"
        "from stage2_train.recipes.recipes import first_steps\n"
        "def mine() -> Recipe:\n"
        "    return replace(first_steps(), name='mine', aqr=AqrConfig())\n"
    )
    run, out, photos = tmp_path / "run", tmp_path / "out", tmp_path / "photos"
    options = ["--recipe", f"{recipe}:mine", "--stop-after", "1"]
    assert train_stage2([str(tiny_store), "--out", str(run), *options]) == 0

    options = ["--out", str(out), "--plot", "1", "--min-score", "0"]
    assert plot_sensor_weights_command([str(tiny_store), str(run), *options]) == 0
    dataset = ["--nuscenes", str(synthetic_root), "--version", "v1.0-mini"]
    dataset += ["--split", "mini_train", "--samples", "1"]
    with np.load(out / "sensor_weights.npz") as file:
        fewer = {name: file[name] for name in file.files if name not in SLOW_TO_DRAW}
    np.savez(tmp_path / "fewer.npz", **fewer)
    over_photos = ["--sensor-weights", str(tmp_path / "fewer.npz")]
    assert plot_samples([str(tiny_store), *dataset, *over_photos, "--out", str(photos)]) == 0

    token, *_ = CachedFeatures(tiny_store).tokens
    assert {file.name for file in out.iterdir()} == {
        f"{token}.png",
        "detections.png",
        "sensor_weights.npz",
    }
    over_photos = {f"{token}_{condition}.png" for condition in ("all", "no_lidar")}
    assert over_photos == {file.name for file in photos.iterdir()}
    for file in (*out.glob("*.png"), *photos.glob("*.png")):
        decoded(file)
    # Without a sensor AQR weighs otherwise, and so the dots have other colours.
    a, b = (decoded(photos / name) for name in sorted(over_photos))
    assert a.shape == b.shape
    assert (a != b).any(axis=-1).sum() > DOTS_PX


def test_a_run_without_a_detection_above_the_threshold_is_still_plotted(
    store: CachedFeatures, detector: CmtDetector, tmp_path: Path
) -> None:
    plot_sensor_weights(store, detector, tmp_path, samples=1, plots=0, min_score=2.0)

    assert {file.name for file in tmp_path.iterdir()} == {"detections.png", "sensor_weights.npz"}


def test_a_run_without_aqr_is_refused(store: CachedFeatures, tmp_path: Path) -> None:
    plain = fresh_detector(store.preset, store.cut, seed=0)

    with pytest.raises(ConfigError, match=r"the run has no AQR.*such as frozen_a"):
        plot_sensor_weights(store, plain, tmp_path, samples=1, plots=1, min_score=0.5)


def test_without_matplotlib_it_says_what_to_install(
    store: CachedFeatures,
    detector: CmtDetector,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.axes", None)
    monkeypatch.delitem(sys.modules, "stage2_train.plots.sensor_weights_plots", raising=False)

    with pytest.raises(ConfigError, match="pip install matplotlib"):
        plot_sensor_weights(store, detector, tmp_path, samples=1, plots=1, min_score=0.5)


def test_a_file_without_weights_is_refused(
    tiny_store: Path, synthetic_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "sensor_weights.npz"
    wrong.write_bytes(b"something else")
    dataset = ["--nuscenes", str(synthetic_root), "--version", "v1.0-mini"]
    dataset += ["--split", "mini_train", "--out", str(tmp_path / "photos")]

    assert plot_samples([str(tiny_store), *dataset, "--sensor-weights", str(wrong)]) == 1
    assert "holds no sensor weights" in capsys.readouterr().err
