"""Training with AQR: from a CMT run, with absent sensors, its weights logged per condition."""

import csv
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cache.reader import CachedFeatures
from shared.checkpoint.checkpoint_table import AQR_PARTS, belongs
from shared.config.aqr_config import AqrConfig
from shared.data.sensor_drop import SensorDrop
from shared.errors import CacheError, CheckpointError, ConfigError, IdentityError
from stage2_train.recipes.recipe import Recipe
from stage2_train.recipes.recipes import CMT_FROZEN_A, aqr_only
from stage2_train.run.run_checkpoint import read_run_checkpoint
from stage2_train.run.sensor_weights_log import mean_sensor_weights, sensor_weight_sums
from stage2_train.run.trained_detector import load_detector
from stage2_train.training.build import train

AQR = AqrConfig(ffn_width=16)
PLAIN = Recipe(name="plain", steps=2, batch_size=2, lr_multipliers=CMT_FROZEN_A)
WITH_AQR = replace(PLAIN, name="aqr", aqr=AQR)


@pytest.fixture
def store(tiny_store: Path) -> CachedFeatures:
    return CachedFeatures(tiny_store)


@pytest.fixture
def cmt_run(store: CachedFeatures, tmp_path: Path) -> Path:
    run = tmp_path / "cmt"
    train(store, PLAIN, run)
    return run


def state(run: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = read_run_checkpoint(run)["state_dict"]
    return weights


@pytest.mark.parametrize("file", ["", "checkpoint.pt"])
def test_a_cmt_run_starts_an_aqr_run_which_says_what_is_new(
    store: CachedFeatures,
    cmt_run: Path,
    tmp_path: Path,
    file: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        train(store, WITH_AQR, tmp_path / "aqr", checkpoint=cmt_run / file, stop_after=0)

    before, after = state(cmt_run), state(tmp_path / "aqr")
    assert all(torch.equal(after[name], values) for name, values in before.items())
    assert all(belongs(name, AQR_PARTS) for name in after.keys() - before.keys())
    assert "new in this run, not in" in caplog.text
    assert (
        "parameters of pts_bbox_head.attention_bias_generator (bias_scale_logit 1)" in caplog.text
    )
    new = {name: after[name].numel() for name in after.keys() - before.keys()}
    predictor = sum(size for name, size in new.items() if ".weight_predictor." in name)
    assert f", weight_predictor {predictor:,})" in caplog.text


def test_a_resumed_run_and_a_refused_one_do_not_say_again_what_is_new(
    store: CachedFeatures, cmt_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(store, WITH_AQR, tmp_path / "aqr", checkpoint=cmt_run, stop_after=0)
    with caplog.at_level(logging.INFO):
        train(store, WITH_AQR, tmp_path / "aqr", checkpoint=cmt_run, stop_after=0)
        with pytest.raises(ConfigError, match="a run with a different"):
            train(store, replace(WITH_AQR, seed=7), tmp_path / "aqr", checkpoint=cmt_run)
    assert "new in this run" not in caplog.text


def test_other_bounds_of_the_scale_keep_the_scale_that_was_trained(
    store: CachedFeatures, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(store, WITH_AQR, tmp_path / "aqr")
    trained = load_detector(tmp_path / "aqr", store).pts_bbox_head.attention_bias_generator
    wider = replace(WITH_AQR, aqr=replace(AQR, max_scale=20.0, bev_window=7))
    with caplog.at_level(logging.INFO):
        train(store, wider, tmp_path / "wider", checkpoint=tmp_path / "aqr", stop_after=0)
    started = load_detector(tmp_path / "wider", store).pts_bbox_head.attention_bias_generator
    assert trained is not None
    assert started is not None
    assert trained.scale != AQR.initial_scale
    torch.testing.assert_close(started.scale, trained.scale)
    assert "bev_window 5, now 7; max_scale 5.0, now 20.0" in caplog.text


def test_bounds_without_the_trained_scale_are_refused(
    store: CachedFeatures, tmp_path: Path
) -> None:
    train(store, WITH_AQR, tmp_path / "aqr", stop_after=0)
    lower = replace(WITH_AQR, aqr=replace(AQR, initial_scale=1.0, max_scale=2.0))
    refused = pytest.raises(ConfigError, match=r"AQR of .*aqr: a scale of 2\.5 is not between")
    with refused:
        train(store, lower, tmp_path / "lower", checkpoint=tmp_path / "aqr")


def test_heads_that_do_not_divide_the_width_are_refused_before_a_run_begins(
    store: CachedFeatures, tmp_path: Path
) -> None:
    recipe = replace(WITH_AQR, aqr=replace(AQR, heads=3))
    with pytest.raises(ConfigError, match=r"aqr\.heads 3 do not divide the width 64"):
        train(store, recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_aqr_run_does_not_start_a_run_without_aqr(store: CachedFeatures, tmp_path: Path) -> None:
    train(store, WITH_AQR, tmp_path / "aqr", stop_after=0)
    with pytest.raises(CheckpointError, match=r"unexpected \(pts_bbox_head.a"):
        train(store, PLAIN, tmp_path / "cmt", checkpoint=tmp_path / "aqr")


def test_a_run_of_a_different_extraction_is_no_starting_point(
    store: CachedFeatures, cmt_run: Path, tmp_path: Path
) -> None:
    saved = read_run_checkpoint(cmt_run)
    torch.save({**saved, "features": "of another store"}, tmp_path / "other.pt")
    with pytest.raises(IdentityError, match="use a store of the same extraction"):
        train(store, WITH_AQR, tmp_path / "aqr", checkpoint=tmp_path / "other.pt")


def test_training_only_aqr_changes_nothing_else(
    store: CachedFeatures, cmt_run: Path, tmp_path: Path
) -> None:
    recipe = replace(aqr_only(), aqr=AQR, sensor_drop=None, epochs=None, steps=3, batch_size=2)
    train(store, recipe, tmp_path / "aqr", checkpoint=cmt_run)
    before, after = state(cmt_run), state(tmp_path / "aqr")
    assert all(torch.equal(after[name], values) for name, values in before.items())
    # The weights start at zero, so what they are made of learns from the second step on.
    name = f"{AQR_PARTS[0]}.weight_predictor.weight"
    assert (after[name] != 0).any()


def test_weights_are_logged_separately_by_absent_sensors(
    store: CachedFeatures, tmp_path: Path
) -> None:
    recipe = replace(
        WITH_AQR,
        aqr=replace(AQR, start="upstream"),
        steps=4,
        sensor_drop=SensorDrop(lidar=0.4, cameras=0.3, single_camera=0.3),
    )
    train(store, recipe, tmp_path / "run", checkpoint=None)
    with (tmp_path / "run/log.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    columns = {name for row in rows for name, value in row.items() if name.startswith("aqr/")}
    assert {"aqr/no lidar/lidar", "aqr/no cameras/cameras", "aqr/scale"} <= columns
    assert not any(name.startswith("aqr/all/") for name in columns)  # every sample lost something
    assert float(rows[0]["aqr/scale"]) == pytest.approx(2.5)


def test_a_store_without_null_features_is_refused_before_training(
    store: CachedFeatures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cache.reader.open_null", lambda _: None)
    with pytest.raises(CacheError, match="has no null features"):
        train(store, replace(WITH_AQR, sensor_drop=SensorDrop()), tmp_path / "run")
    assert not (tmp_path / "run/log.csv").exists()


def test_an_aqr_run_is_evaluated_with_its_aqr(store: CachedFeatures, tmp_path: Path) -> None:
    train(store, WITH_AQR, tmp_path / "aqr")
    detector = load_detector(tmp_path / "aqr", store)
    assert detector.pts_bbox_head.aqr == AQR
    assert all(
        torch.equal(detector.state_dict()[name], values)
        for name, values in state(tmp_path / "aqr").items()
    )


def test_mean_weights_count_queries_of_their_condition_only() -> None:
    weights = torch.tensor([[[1.0, 0.0], [0.0, 0.5]], [[-1.0, 0.2], [0.0, 0.2]]])
    sums = sensor_weight_sums(weights, ("all", "no CAM_BACK"))
    means = mean_sensor_weights({name: float(values) for name, values in sums.items()})
    assert means == pytest.approx(
        {
            "aqr/all/lidar": 0.5,
            "aqr/all/cameras": 0.25,
            "aqr/no single camera/lidar": -0.5,
            "aqr/no single camera/cameras": 0.2,
        }
    )


def test_a_resumed_aqr_run_ends_with_the_bits_of_an_undisturbed_one(
    store: CachedFeatures, tmp_path: Path
) -> None:
    recipe = replace(
        WITH_AQR,
        aqr=replace(AQR, start="upstream"),
        steps=4,
        sensor_drop=SensorDrop(),
        class_balanced=True,
    )
    train(store, recipe, tmp_path / "whole")
    train(store, recipe, tmp_path / "parts", stop_after=1)
    train(store, recipe, tmp_path / "parts")
    whole, parts = state(tmp_path / "whole"), state(tmp_path / "parts")
    assert all(torch.equal(parts[name], values) for name, values in whole.items())
    assert (tmp_path / "whole/log.csv").read_bytes() == (tmp_path / "parts/log.csv").read_bytes()
