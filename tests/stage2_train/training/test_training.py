"""Training from a store learns, resumes as if it had never stopped, and stops when it must."""

import csv
import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cache.reader import CachedFeatures
from shared.config.preset import PointGrid
from shared.data.features import Annotations
from shared.data.sensor_drop import SensorDrop
from shared.data.targets import trainable_annotations
from shared.errors import CacheError, ConfigError, InterruptedWorkError, TrainingError
from shared.model.initial_detector import fresh_detector
from shared.model.losses import detection_losses
from stage2_train.__main__ import main as train_stage2
from stage2_train.data import dataset
from stage2_train.data.loading_options import LOADERS, PROCESS, THREADS
from stage2_train.data.prefetch import MicroBatches
from stage2_train.recipes.recipe import Recipe
from stage2_train.run.run_folder import RunFolder
from stage2_train.training import loss_step
from stage2_train.training.build import train
from stage2_train.training.global_batch import GlobalBatch
from stage2_train.training.queued_step import QueuedStep
from stage2_train.training.training_step import TrainingStep


def recipe(**changes: object) -> Recipe:
    defaults = {"name": "test", "steps": 6, "batch_size": 2, "learning_rate": 1e-3}
    return Recipe(**(defaults | changes))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def store(tiny_store: Path) -> CachedFeatures:
    return CachedFeatures(tiny_store)


def weights(run: Path) -> dict[str, torch.Tensor]:
    saved = RunFolder(run).load()
    assert saved is not None
    state: dict[str, torch.Tensor] = saved["state_dict"]
    return state


def test_the_loss_falls(store: CachedFeatures, tmp_path: Path) -> None:
    result = train(store, recipe(steps=20, batch_size=3), tmp_path / "run")

    first, last = result["first_loss"], result["last_loss"]
    assert result["steps"] == 20
    assert first is not None
    assert last is not None
    assert last < 0.7 * first


def test_a_resumed_run_ends_with_the_bits_of_an_undisturbed_one(
    store: CachedFeatures, tmp_path: Path
) -> None:
    """In the middle of an epoch of three steps, and whoever loads."""
    drawn = recipe(batch_size=1, sensor_drop=SensorDrop())
    train(store, drawn, tmp_path / "whole")
    train(store, drawn, tmp_path / "parts", stop_after=2, workers=1, loader=PROCESS)
    train(store, drawn, tmp_path / "parts", stop_after=5, workers=2, loader=THREADS)
    train(store, drawn, tmp_path / "parts", loader=PROCESS)

    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert whole.keys() == parts.keys()
    assert (tmp_path / "whole" / "log.csv").read_text() == (
        tmp_path / "parts" / "log.csv"
    ).read_text()


def test_a_signal_saves_after_the_step_and_the_run_resumes_from_there(
    store: CachedFeatures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = TrainingStep.take

    def interrupted(
        self: TrainingStep, batches: MicroBatches, whole: GlobalBatch, step: int
    ) -> QueuedStep:
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return honest(self, batches, whole, step)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingStep, "take", interrupted)
        with pytest.raises(InterruptedWorkError, match=r"step 3 of 6 is saved .* run the same"):
            train(store, recipe(), tmp_path / "run")
    train(store, recipe(), tmp_path / "run")
    train(store, recipe(), tmp_path / "whole")

    run, whole = weights(tmp_path / "run"), weights(tmp_path / "whole")
    assert all(torch.equal(whole[name], run[name]) for name in whole)


def test_the_log_has_every_step_and_every_loss_term(store: CachedFeatures, tmp_path: Path) -> None:
    train(store, recipe(), tmp_path / "run")

    with (tmp_path / "run" / "log.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    assert {"loss", "grad_norm", "lr", "loss_cls", "d0.loss_bbox", "dn_loss_cls"} <= set(rows[0])


def test_stopping_after_no_step_saves_the_untrained_detector(
    store: CachedFeatures, tmp_path: Path
) -> None:
    result = train(store, recipe(), tmp_path / "run", stop_after=0)

    assert result == {"steps": 0, "first_loss": None, "last_loss": None, "seconds_per_step": None}
    fresh = fresh_detector(store.preset, seed=0).state_dict()
    saved = weights(tmp_path / "run")
    assert all(torch.equal(fresh[name], saved[name]) for name in fresh)


def test_a_run_folder_of_a_different_recipe_is_refused(
    store: CachedFeatures, tmp_path: Path
) -> None:
    train(store, recipe(), tmp_path / "run", stop_after=0)

    with pytest.raises(ConfigError, match="holds a run with a different recipe"):
        train(store, recipe(learning_rate=2e-3), tmp_path / "run")


def test_a_run_that_started_from_different_weights_is_not_resumed(
    store: CachedFeatures, tmp_path: Path
) -> None:
    train(store, recipe(), tmp_path / "run", stop_after=0)
    checkpoint = tmp_path / "cmt.pth"
    state = fresh_detector(store.preset, seed=1).state_dict()
    torch.save({"state_dict": state}, checkpoint)

    with pytest.raises(ConfigError, match="different starting weights"):
        train(store, recipe(), tmp_path / "run", checkpoint=checkpoint)


def test_necks_and_head_start_from_a_checkpoint(store: CachedFeatures, tmp_path: Path) -> None:
    checkpoint = tmp_path / "cmt.pth"
    state = fresh_detector(store.preset, seed=1).state_dict()
    torch.save({"state_dict": state}, checkpoint)

    train(store, recipe(), tmp_path / "run", checkpoint=checkpoint, stop_after=0)

    saved = weights(tmp_path / "run")
    assert all(torch.equal(state[name], saved[name]) for name in state)


def test_training_does_not_start_on_an_incomplete_store(
    tiny_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    partial = tmp_path / "partial.zarr"
    shutil.copytree(tiny_store, partial)
    next(partial.glob("ledger/0*.json")).unlink()

    with pytest.raises(CacheError, match="is not finished: 3 of 3 samples are missing"):
        train(CachedFeatures(partial), recipe(), tmp_path / "run")

    assert train_stage2([str(partial), "--out", str(tmp_path / "run2")]) == 1
    assert "Finish it with: extract-features tiny" in capsys.readouterr().err


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_samples(
    store: CachedFeatures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = detection_losses

    def broken(*arguments: object, **options: object) -> dict[str, torch.Tensor]:
        losses = honest(*arguments, **options)  # type: ignore[arg-type]
        return losses | {"loss_bbox": losses["loss_bbox"] * float("nan")}

    monkeypatch.setattr(loss_step, "detection_losses", broken)

    with pytest.raises(TrainingError, match=r"step 0, samples .*: loss_bbox is not finite"):
        train(store, recipe(), tmp_path / "run")


def test_a_batch_without_ground_truth_trains(
    store: CachedFeatures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = trainable_annotations

    def nothing(annotations: Annotations, grid: PointGrid) -> Annotations:
        boxes = honest(annotations, grid)
        return replace(boxes, boxes_lidar=boxes.boxes_lidar[:0], labels=boxes.labels[:0])

    monkeypatch.setattr(dataset, "trainable_annotations", nothing)

    result = train(store, recipe(steps=2), tmp_path / "run")

    assert result["steps"] == 2


@pytest.mark.parametrize("loader", LOADERS)
def test_loader_threads_change_nothing(store: CachedFeatures, tmp_path: Path, loader: str) -> None:
    train(store, recipe(steps=2), tmp_path / "alone")
    train(store, recipe(steps=2), tmp_path / "helped", workers=1, loader=loader)

    alone, helped = weights(tmp_path / "alone"), weights(tmp_path / "helped")
    assert all(torch.equal(alone[name], helped[name]) for name in alone)


def test_the_command_prints_its_result_as_json(
    tiny_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from stage2_train.recipes.recipes import Recipe\n"
        "def short():\n"
        "    return Recipe(name='short', steps=1, batch_size=1)\n"
    )

    status = train_stage2(
        [str(tiny_store), "--out", str(tmp_path / "run"), "--recipe", f"{mine}:short"]
    )

    assert status == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 1
