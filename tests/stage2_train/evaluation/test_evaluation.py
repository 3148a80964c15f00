"""Evaluation gives nuscenes-devkit's numbers for what the store and the checkpoint hold."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from cache.reader import CachedFeatures
from shared.config.classes import CAMERAS
from shared.config.preset_catalogue import tiny
from shared.errors import DatasetError
from shared.model.box_coder import Detections
from stage2_train.__main__ import main as train_stage2
from stage2_train.evaluate import main as evaluate_stage2
from stage2_train.evaluation.detections import to_nuscenes, write_results
from stage2_train.evaluation.official_metrics import official_metrics
from stage2_train.run.trained_detector import load_detector


def test_ground_truth_of_the_store_given_as_detections_is_perfect(
    tiny_store: Path, synthetic_root: Path, tmp_path: Path
) -> None:
    """The whole chain: tables, LiDAR frame, store, result file, and nuscenes-devkit's verdict."""
    store = CachedFeatures(tiny_store)
    results = {}
    for frame in map(store.frame, store.tokens):
        truth = frame.annotations
        is_trainable = (truth.labels >= 0) & (truth.lidar_points > 0)
        detections = Detections(
            boxes_lidar=torch.from_numpy(truth.boxes_lidar[is_trainable]).nan_to_num(),
            scores=torch.ones(int(is_trainable.sum())),
            labels=torch.from_numpy(truth.labels[is_trainable]),
            queries=torch.arange(int(is_trainable.sum())),
        )
        results[frame.token] = to_nuscenes(detections, frame)
    write_results(tmp_path / "results.json", results.items(), tiny())

    summary = official_metrics(
        tmp_path / "results.json", synthetic_root, "v1.0-mini", store.tokens, tmp_path
    )

    assert summary["mean_ap"] == pytest.approx(1.0, abs=1e-6)
    assert summary["tp_errors"]["trans_err"] < 1e-5
    assert summary["tp_errors"]["orient_err"] < 0.02  # the boxes' pitch and roll are not stored
    assert summary["split"] == "mini_train"


@pytest.fixture(scope="module")
def run(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    options = ["--out", str(folder), "--recipe", "first_steps", "--stop-after", "1"]
    assert train_stage2([str(tiny_store), *options]) == 0
    return folder


def test_every_sample_is_in_the_result_file_and_the_metrics_are_written(
    tiny_store: Path, synthetic_root: Path, run: Path, tmp_path: Path
) -> None:
    status = evaluate_stage2(
        [str(tiny_store), str(run), "--out", str(tmp_path), "--nuscenes", str(synthetic_root)]
    )

    assert status == 0
    results = json.loads((tmp_path / "results_nusc.json").read_text())["results"]
    assert set(results) == set(CachedFeatures(tiny_store).tokens)
    metrics = json.loads((tmp_path / "metrics_summary.json").read_text())
    assert 0.0 <= metrics["mean_ap"] < 0.5
    assert metrics["samples"] == 3


def test_without_tables_only_the_result_file_is_written(
    tiny_store: Path, run: Path, tmp_path: Path
) -> None:
    assert evaluate_stage2([str(tiny_store), str(run), "--out", str(tmp_path)]) == 0

    assert {file.name for file in tmp_path.iterdir()} == {"evaluation.json", "results_nusc.json"}


def test_a_folder_keeps_to_the_detector_and_store_that_were_evaluated_into_it(
    tiny_store: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, longer = tmp_path / "out", tmp_path / "longer"
    options = ["--out", str(longer), "--recipe", "first_steps", "--stop-after", "2"]
    assert train_stage2([str(tiny_store), *options]) == 0
    assert evaluate_stage2([str(tiny_store), str(run), "--out", str(out)]) == 0
    before = (out / "results_nusc.json").read_bytes()
    capsys.readouterr()

    assert evaluate_stage2([str(tiny_store), str(longer), "--out", str(out)]) == 1
    message = capsys.readouterr().err
    assert f"holds the evaluation of {run} on {tiny_store}" in message
    assert f"with other weights than {longer} on {tiny_store} has now" in message
    assert f"--out {out}-2; to replace it, remove {out} first" in message
    assert (out / "results_nusc.json").read_bytes() == before
    assert evaluate_stage2([str(tiny_store), str(run), "--out", str(out)]) == 0
    (out / "results_nusc.json").unlink()  # as if it had been interrupted
    assert evaluate_stage2([str(tiny_store), str(longer), "--out", str(out)]) == 0


def test_a_run_trained_further_is_told_where_to_evaluate_it(
    tiny_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = tmp_path / "run", tmp_path / "run" / "val"
    train = [str(tiny_store), "--out", str(run), "--recipe", "first_steps", "--stop-after"]
    evaluate = [str(tiny_store), str(run), "--out"]
    assert train_stage2([*train, "1"]) == 0
    assert evaluate_stage2([*evaluate, str(out)]) == evaluate_stage2([*evaluate, str(run)]) == 0
    assert train_stage2([*train, "2"]) == 0
    capsys.readouterr()

    assert evaluate_stage2([*evaluate, str(out)]) == 1
    message = capsys.readouterr().err
    assert f"of {run} on {tiny_store}, with weights that have changed since; results" in message
    assert f"evaluate into --out {out}-2; to replace it, remove {out} first" in message
    assert evaluate_stage2([*evaluate, f"{out}-2"]) == 0
    assert evaluate_stage2([*evaluate, str(run)]) == 1  # which holds the run itself
    assert capsys.readouterr().err.endswith(f"evaluate into --out {run}-2\n")
    shutil.rmtree(out)
    assert evaluate_stage2([*evaluate, str(out)]) == 0


def test_samples_that_a_run_was_trained_on_are_named_as_such(
    tiny_store: Path, tiny_val_store: Path, run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    load_detector(run, CachedFeatures(tiny_val_store))
    assert caplog.messages[-1] == f"{run}: step 1"
    load_detector(run, CachedFeatures(tiny_store))
    assert "trained on samples of this very store" in caplog.messages[-1]


def test_absent_sensors_are_evaluated_in_the_same_call(
    tiny_store: Path,
    synthetic_root: Path,
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = [str(tiny_store), str(run), "--nuscenes", str(synthetic_root), "--plot", "0"]
    drop = ["--drop", "cameras", "each-camera", "lidar"]
    assert evaluate_stage2([*options, "--out", str(tmp_path / "full")]) == 0

    assert evaluate_stage2([*drop, "--out", str(tmp_path / "all"), *options[2:], *options[:2]]) == 0

    names = ["no_cameras", *(f"no_{camera}" for camera in CAMERAS), "no_lidar"]
    texts = {
        name: (tmp_path / "all" / name / "results_nusc.json").read_text() for name in [".", *names]
    }
    assert texts["."] == (tmp_path / "full" / "results_nusc.json").read_text()
    assert len(set(texts.values())) == len(texts)
    meta = json.loads(texts["no_lidar"])["meta"]
    assert (meta["use_lidar"], meta["use_camera"]) == (False, True)
    compared = json.loads((tmp_path / "all" / "conditions.json").read_text())["conditions"]
    assert list(compared) == ["clean", *names]
    for name in names:
        summary = json.loads((tmp_path / "all" / name / "metrics_summary.json").read_text())
        assert compared[name]["NDS"] == summary["nd_score"]
    assert "| no_CAM_BACK |" in capsys.readouterr().out


def test_a_run_with_averaged_weights_is_evaluated_with_them(
    tiny_store: Path, run: Path, tmp_path: Path
) -> None:
    saved = torch.load(run / "checkpoint.pt", weights_only=True)
    averaged = {name: values + 1 for name, values in saved["state_dict"].items()}
    torch.save({**saved, "ema": averaged}, tmp_path / "averaged.pt")
    store = CachedFeatures(tiny_store)

    plain, evaluated = (
        load_detector(path, store).state_dict() for path in (run, tmp_path / "averaged.pt")
    )

    for name, values in saved["state_dict"].items():
        assert torch.equal(plain[name], values)
        assert torch.equal(evaluated[name], averaged[name])


def test_a_root_without_the_tables_is_refused(tiny_store: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"has no tables of v1\.0-mini"):
        official_metrics(
            tmp_path / "r.json", tmp_path, "v1.0-mini", CachedFeatures(tiny_store).tokens, tmp_path
        )


def test_a_checkpoint_of_other_features_is_refused(
    tiny_store: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = torch.load(run / "checkpoint.pt", weights_only=True)
    of_other_features = tmp_path / "other.pt"
    torch.save({**saved, "features": "0" * 64}, of_other_features)

    assert evaluate_stage2([str(tiny_store), str(of_other_features), "--out", str(tmp_path)]) == 1
    assert "other backbone weights or other preprocessing" in capsys.readouterr().err


def test_a_file_that_is_no_run_is_refused(
    tiny_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = tmp_path / "foreign.pt"
    torch.save({"state_dict": {}}, foreign)

    assert evaluate_stage2([str(tiny_store), str(foreign), "--out", str(tmp_path)]) == 1
    assert "it holds nothing. It is not a CMT detector" in capsys.readouterr().err


def test_a_run_of_a_model_with_other_parameters_is_refused_with_their_names(
    tiny_store: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after a change of the model's code."""
    saved = torch.load(run / "checkpoint.pt", weights_only=False)
    state = saved["state_dict"]
    state["pts_bbox_head.temperature"] = state.pop("pts_bbox_head.reference_points.weight")
    torch.save(saved, tmp_path / "changed.pt")
    options = [str(tiny_store), str(tmp_path / "changed.pt"), "--out", str(tmp_path / "out")]
    assert evaluate_stage2(options) == 1
    message = capsys.readouterr().err
    assert "1 missing (pts_bbox_head.reference_points.weight)" in message
    assert "1 unexpected (pts_bbox_head.temperature)" in message
    assert "or with different code of the model" in message
