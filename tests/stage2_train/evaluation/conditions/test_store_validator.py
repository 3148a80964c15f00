"""A validation store is measured like any other, whoever computes which batch, or is refused."""

import json
import pickle
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from nuscenes.eval.detection import utils as category_names

from cache.reader import CachedFeatures
from shared.data.ground_truth import GroundTruth
from shared.errors import CacheError, ConfigError, DatasetError
from shared.model.initial_detector import fresh_detector
from shared.model.losses import detection_losses
from stage1_extract.__main__ import main as extract_features
from stage2_train.__main__ import main as train_stage2
from stage2_train.data.dataset import StoreDataset
from stage2_train.data.loader import evaluation_batches
from stage2_train.evaluation.conditions.measured_batch import MeasuredBatch
from stage2_train.evaluation.conditions.store_validator import StoreValidator
from stage2_train.evaluation.detections import detect
from stage2_train.evaluation.validation_samples import evenly_spread
from tests.stage2_train.run.test_export import complete_state


@pytest.fixture(scope="module")
def training(tiny_store: Path) -> CachedFeatures:
    return CachedFeatures(tiny_store)


@pytest.fixture(scope="module")
def store(tiny_val_store: Path) -> CachedFeatures:
    return CachedFeatures(tiny_val_store)


def measured(
    validator: StoreValidator, store: CachedFeatures, processes: int, *, is_whole: bool = True
) -> list[MeasuredBatch]:
    detector = fresh_detector(store.preset, seed=0).eval()
    return [
        batch
        for process in range(processes)
        for batch in validator.measure(
            detector, is_whole=is_whole, process=process, processes=processes
        )
    ]


def test_several_processes_measure_and_judge_what_one_does(
    store: CachedFeatures, training: CachedFeatures, synthetic_root: Path, tmp_path: Path
) -> None:
    validator = StoreValidator(store, training, nuscenes_root=synthetic_root, batch_size=1)
    validator.prepare()

    parts = {processes: measured(validator, store, processes) for processes in (1, 2, 5)}
    assert [batch.index for batch in parts[2]] == [0, 2, 1]
    scores = {
        processes: validator.judge(batches, is_whole=True, out=tmp_path / str(processes))
        for processes, batches in parts.items()
    }

    assert scores[1] == scores[2] == scores[5]
    texts = {(tmp_path / str(n) / "results_nusc.json").read_text() for n in parts}
    assert len(texts) == 1


def test_the_detections_are_those_of_an_evaluation_and_the_loss_that_of_training(
    store: CachedFeatures, training: CachedFeatures
) -> None:
    detector = fresh_detector(store.preset, seed=0).eval()
    batches = [*evaluation_batches(StoreDataset(store, store.tokens), 2, workers=0)]
    with torch.no_grad():
        losses = [
            sum(
                float(term)
                for term in detection_losses(
                    detector(batch),
                    GroundTruth.of(batch.boxes_lidar, batch.labels),
                    store.preset.head,
                ).values()
            )
            for batch in batches
        ]
    validator = StoreValidator(store, training, batch_size=2)

    parts = measured(validator, store, 1)
    found = {token: boxes.entries() for part in parts for token, boxes in part.detections.items()}
    scores = validator.judge(parts, is_whole=True, out=None)

    assert found == dict(detect(detector, batches, store))
    assert scores["loss"] == pytest.approx((2 * losses[0] + losses[1]) / 3, rel=1e-6)
    assert (scores["samples"], scores["mAP"], scores["NDS"]) == (3, None, None)


def test_a_detection_waits_to_be_written_in_few_bytes(
    store: CachedFeatures, training: CachedFeatures
) -> None:
    parts = measured(StoreValidator(store, training), store, 1)

    waiting = [boxes for part in parts for boxes in part.detections.values()]

    count = sum(len(boxes.scores) for boxes in waiting)
    of_frames = 1500 * len(waiting)
    assert count > 0
    assert len(pickle.dumps(waiting)) < 56 * count + of_frames


def test_the_curve_takes_some_samples_and_the_end_all(
    store: CachedFeatures, training: CachedFeatures, synthetic_root: Path, tmp_path: Path
) -> None:
    validator = StoreValidator(store, training, nuscenes_root=synthetic_root, samples=2)
    validator.prepare()

    parts = measured(validator, store, 1, is_whole=False)
    (part,) = parts
    scores = validator.judge(parts, is_whole=False, out=None)

    assert scores["samples"] == 2
    assert scores["NDS"] is not None
    assert [*part.detections] == [store.tokens[0], store.tokens[1]]
    assert "2 of the 3 samples" in validator.statement


def test_a_loss_that_is_not_finite_has_no_metrics(
    store: CachedFeatures, training: CachedFeatures, synthetic_root: Path
) -> None:
    validator = StoreValidator(store, training, nuscenes_root=synthetic_root)
    validator.prepare()
    detector = fresh_detector(store.preset, seed=0).eval()
    with torch.no_grad():
        detector.pts_bbox_head.reference_points.weight.fill_(torch.nan)

    parts = [*validator.measure(detector, is_whole=True, process=0, processes=1)]
    scores = validator.judge(parts, is_whole=True, out=None)

    assert not torch.tensor(scores["loss"]).isfinite()
    assert scores["NDS"] is None


@pytest.mark.parametrize(
    ("count", "expected"),
    [(None, "abcdefg"), (9, "abcdefg"), (7, "abcdefg"), (3, "ace"), (2, "ad"), (1, "a")],
)
def test_samples_are_spread_evenly(count: int | None, expected: Sequence[str]) -> None:
    assert evenly_spread("abcdefg", count) == tuple(expected)


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert train_stage2([*map(str, arguments)]) == 1
    return capsys.readouterr().err


def test_a_store_of_other_backbones_is_refused(
    tiny_store: Path, synthetic_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, foreign = tmp_path / "cmt.pth", tmp_path / "foreign.zarr"
    torch.save({"state_dict": complete_state(3)}, checkpoint)
    where = ["--nuscenes", synthetic_root, "--version", "v1.0-mini", "--split", "mini_val"]
    extraction = ["tiny", *where, "--store", foreign, "--checkpoint", checkpoint]
    assert extract_features([*map(str, extraction)]) == 0

    said = refusal(capsys, tiny_store, "--out", tmp_path / "run", "--val", foreign)

    assert "was extracted with other backbone weights, another preset or another cut" in said
    assert f"`feature-cache diff {tiny_store} {foreign}`" in said
    assert not (tmp_path / "run").exists()


def test_an_incomplete_store_is_refused(
    tiny_val_store: Path, training: CachedFeatures, tmp_path: Path
) -> None:
    partial = tmp_path / "partial.zarr"
    shutil.copytree(tiny_val_store, partial)
    next(partial.glob("ledger/0*.json")).unlink()

    with pytest.raises(CacheError, match="is not finished: 3 of 3 samples are missing"):
        StoreValidator(CachedFeatures(partial), training)


def test_samples_that_are_trained_on_are_refused(training: CachedFeatures) -> None:
    with pytest.raises(ConfigError, match=r"3 of the 3 samples of .* are also in .* memorised"):
        StoreValidator(training, training)


def test_tables_that_do_not_fit_are_refused_before_the_run_begins(
    tiny_store: Path, tiny_val_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    validation = ("--val", tiny_val_store, "--nuscenes", tmp_path)

    assert "has no tables of v1.0-mini" in refusal(
        capsys, tiny_store, "--out", out, "--recipe", "first_steps", *validation
    )
    assert not (out / "config.json").exists()


def test_tables_without_a_validation_store_are_refused(
    tiny_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refusal(capsys, tiny_store, "--out", tmp_path / "run", "--nuscenes", tmp_path)
    assert "name one with --val" in said


def test_tables_without_a_true_box_are_refused_before_training(
    store: CachedFeatures,
    training: CachedFeatures,
    synthetic_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    validator = StoreValidator(store, training, nuscenes_root=synthetic_root)
    monkeypatch.setattr(category_names, "category_to_detection_name", lambda name: None)

    with pytest.raises(DatasetError, match=r"none of the 3 samples of .* has a true box"):
        validator.prepare()


def test_the_command_validates_and_prints_the_best(
    tiny_store: Path,
    tiny_val_store: Path,
    synthetic_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from stage2_train.recipes.recipes import Recipe\n"
        "def short():\n"
        "    return Recipe(name='short', steps=2, batch_size=1, precision='bf16-mixed')\n"
    )
    out = tmp_path / "run"

    options = ["--out", out, "--recipe", f"{mine}:short", "--val", tiny_val_store]
    assert train_stage2([*map(str, [tiny_store, *options, "--nuscenes", synthetic_root])]) == 0

    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    summary = json.loads((out / "validation" / "metrics_summary.json").read_text())
    assert printed["best/NDS"] == summary["nd_score"]
    assert (printed["steps"], printed["best/step"], printed["best/samples"]) == (2, 2, 3)
