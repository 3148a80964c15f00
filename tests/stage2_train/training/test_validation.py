"""Validation decides what is best and when to stop, and changes nothing of the training."""

import csv
import json
import logging
import math
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cache.reader import CachedFeatures
from shared.errors import ConfigError, InterruptedWorkError
from shared.model.detector import CmtDetector, build_detector
from stage2_train.evaluate import main as evaluate_stage2
from stage2_train.evaluation.conditions.store_validator import StoreValidator
from stage2_train.recipes.recipe import Recipe
from stage2_train.run.run_folder import RunFolder
from stage2_train.run.run_progress import Progress
from stage2_train.training.build import train
from stage2_train.training.validation import validation_interval
from tests.stage2_train.training.test_training import recipe


@pytest.fixture(scope="module")
def store(tiny_store: Path) -> CachedFeatures:
    return CachedFeatures(tiny_store)


@pytest.fixture(scope="module")
def val_store(tiny_val_store: Path) -> CachedFeatures:
    return CachedFeatures(tiny_val_store)


class Curve:
    """A validator that returns these losses, mAPs and NDSs, one after the other.

    Args:
        scores: (loss, mAP, NDS) of every validation.
        stop_at: validation in which the process gets SIGTERM, once.
    """

    statement = "a curve"

    def __init__(self, *scores: tuple[float, float | None, float | None], stop_at: int = -1):
        self.scores, self.stop_at = list(scores), stop_at
        self.weights: list[dict[str, torch.Tensor]] = []
        self.modes: list[bool] = []
        self.is_whole: list[bool] = []

    @property
    def identity(self) -> dict[str, Any]:
        return {"scores": self.scores}

    def prepare(self) -> None:
        pass

    def batches(self, *, is_whole: bool) -> int:
        return 2

    def measure(self, detector: CmtDetector, **_: Any) -> Iterator[int]:
        self.modes.append(any(module.training for module in detector.modules()))
        self.weights.append({k: v.clone() for k, v in detector.state_dict().items()})
        torch.rand(7)
        if self.stop_at == len(self.is_whole):
            self.stop_at = -1
            os.kill(os.getpid(), signal.SIGTERM)
        yield 0
        yield 1

    def judge(
        self, measured: Sequence[int], *, is_whole: bool, out: Path | None
    ) -> dict[str, float | None]:
        assert measured == [0, 1]
        self.is_whole.append(is_whole)
        loss, mean_ap, nds = self.scores[0 if is_whole else sum(not w for w in self.is_whole) - 1]
        return {"samples": 3, "loss": loss, "mAP": mean_ap, "NDS": nds}


def validated(**changes: object) -> Recipe:
    return recipe(**({"validate_steps": 2, "checkpoint_every": 3} | changes))


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "validation.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


def best_step(out: Path) -> int:
    step: int = torch.load(out / "best.pt", weights_only=True)["step"]
    return step


def progress_of(out: Path) -> Progress:
    saved = RunFolder(out).load()
    assert saved is not None
    return Progress(**saved["progress"])


def test_a_run_with_validation_has_the_log_and_weights_of_one_without(
    store: CachedFeatures, val_store: CachedFeatures, synthetic_root: Path, tmp_path: Path
) -> None:
    chosen = validated(steps=4, validate_steps=1, ema_decay=0.5)
    validator = StoreValidator(val_store, store, nuscenes_root=synthetic_root)

    train(store, chosen, tmp_path / "without")
    train(store, chosen, tmp_path / "with", validator=validator)

    logs = [(tmp_path / run / "log.csv").read_bytes() for run in ("without", "with")]
    assert logs[0] == logs[1]
    without, validating = (RunFolder(tmp_path / run).load() for run in ("without", "with"))
    assert without is not None
    assert validating is not None
    for part in ("state_dict", "ema"):
        for name, values in without[part].items():
            assert torch.equal(values, validating[part][name]), name


def test_the_scores_are_those_of_evaluating_the_checkpoint(
    store: CachedFeatures,
    val_store: CachedFeatures,
    synthetic_root: Path,
    tiny_val_store: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / "run"
    validator = StoreValidator(val_store, store, nuscenes_root=synthetic_root)
    result = train(store, validated(steps=3), out, validator=validator)

    options = ["--nuscenes", str(synthetic_root), "--plot", "0"]
    evaluated = [str(tiny_val_store), str(out / "best.pt"), "--out", str(tmp_path / "judged")]
    assert evaluate_stage2([*evaluated, *options]) == 0

    for name in ("results_nusc.json", "metrics_details.json"):
        judged = (tmp_path / "judged" / name).read_text()
        assert (out / "validation" / name).read_text() == judged
    summary = json.loads((out / "validation" / "metrics_summary.json").read_text())
    scores = json.loads((out / "best.json").read_text())
    assert scores["NDS"] == summary["nd_score"] == result["best/NDS"]
    assert scores["mAP"] == summary["mean_ap"]
    assert scores["step"] == best_step(out)
    assert "all classes" in (out / "validation" / "metrics.txt").read_text()
    row = next(row for row in rows(out) if int(row["step"]) == scores["step"])
    for name in ("loss", "mAP", "NDS"):  # the curve takes all three samples here
        assert float(row[name]) == scores[name]


def test_the_best_is_that_of_the_highest_nds_although_the_losses_say_otherwise(
    store: CachedFeatures, tmp_path: Path
) -> None:
    curve = Curve((9.0, 0.3, 0.1), (8.0, 0.1, 0.5), (7.0, 0.2, 0.2))

    short = validated(steps=3, validate_steps=1)
    for best_by, step in (("NDS", 2), ("mAP", 1), ("loss", 3)):
        train(store, replace(short, best_by=best_by), tmp_path / best_by, validator=curve)
        assert best_step(tmp_path / best_by) == step
        curve.is_whole.clear()

    saved = torch.load(tmp_path / "NDS" / "best.pt", weights_only=True)["state_dict"]
    assert all(torch.equal(curve.weights[1][name], values) for name, values in saved.items())
    # The fourth measures the best on all samples.
    assert all(torch.equal(curve.weights[3][name], values) for name, values in saved.items())
    assert curve.modes == [False] * 12


def test_without_metrics_the_lowest_loss_is_the_best_and_cells_are_empty(
    store: CachedFeatures, tmp_path: Path
) -> None:
    curve = Curve((9.0, None, None), (7.0, None, None), (8.0, None, None))

    train(store, validated(), tmp_path / "run", validator=curve)

    assert best_step(tmp_path / "run") == 4
    assert list(rows(tmp_path / "run")[0]) == ["step", "samples", "loss", "mAP", "NDS", "seconds"]
    assert [(row["step"], row["loss"], row["NDS"]) for row in rows(tmp_path / "run")] == [
        ("2", "9.0", ""),
        ("4", "7.0", ""),
        ("6", "8.0", ""),
    ]


def test_averaged_weights_are_validated(store: CachedFeatures, tmp_path: Path) -> None:
    curve = Curve((9.0, None, None))

    train(store, validated(steps=1, ema_decay=0.5), tmp_path / "run", validator=curve)

    saved = RunFolder(tmp_path / "run").load()
    assert saved is not None
    for weights in curve.weights:  # of the curve and of the end
        assert all(torch.equal(saved["ema"][name], values) for name, values in weights.items())
    assert not torch.equal(
        saved["ema"]["pts_bbox_head.reference_points.weight"],
        saved["state_dict"]["pts_bbox_head.reference_points.weight"],
    )


def test_a_run_stops_after_as_many_validations_as_it_has_patience(
    store: CachedFeatures, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scores = ((9.0, 0.1, 0.1), (8.0, 0.3, 0.3), (7.0, 0.2, 0.2), (6.0, 0.1, 0.3), (5.0, 0.9, 0.9))
    patient = validated(steps=20, patience=2, best_by="mAP")

    result = train(store, patient, tmp_path / "run", validator=Curve(*scores))
    with caplog.at_level(logging.INFO):
        again = train(store, patient, tmp_path / "run", validator=Curve(*scores))

    assert "step 8 of 20: the run has stopped early, nothing is left to train" in caplog.text
    assert "training tiny" not in caplog.text
    assert result["steps"] == again["steps"] == 8
    assert best_step(tmp_path / "run") == 4
    assert len((tmp_path / "run" / "log.csv").read_text().splitlines()) == 1 + 8
    assert again["first_loss"] is None
    assert again["best/step"] == 4


@pytest.mark.parametrize("stop_after", [3, 4, 5, 7])
def test_early_stopping_resumes_as_if_the_run_had_never_stopped(
    store: CachedFeatures, tmp_path: Path, stop_after: int
) -> None:
    scores = ((9.0, 0.1, 0.1), (8.0, 0.3, 0.3), (7.0, 0.2, 0.2), (6.0, 0.1, 0.1), (5.0, 0.9, 0.9))
    patient, curve = validated(steps=20, patience=2), Curve(*scores)

    train(store, patient, tmp_path / "run", validator=curve, stop_after=stop_after)
    result = train(store, patient, tmp_path / "run", validator=curve)

    assert result["steps"] == 8
    assert best_step(tmp_path / "run") == 4
    assert progress_of(tmp_path / "run").since_best == 2
    assert [row["step"] for row in rows(tmp_path / "run")] == ["2", "4", "6", "8"]


def test_a_signal_during_a_validation_saves_the_step_and_the_resumed_run_repeats_it(
    store: CachedFeatures, tmp_path: Path
) -> None:
    scores = ((9.0, 0.1, 0.1), (8.0, 0.3, 0.3), (7.0, 0.2, 0.2))
    train(store, validated(), tmp_path / "whole", validator=Curve(*scores))
    curve = Curve(*scores, stop_at=1)

    with pytest.raises(InterruptedWorkError, match="step 4 of 6 is saved"):
        train(store, validated(), tmp_path / "run", validator=curve)
    assert progress_of(tmp_path / "run").validated_at == 2
    train(store, validated(), tmp_path / "run", validator=curve)

    assert progress_of(tmp_path / "run") == progress_of(tmp_path / "whole")
    assert best_step(tmp_path / "run") == 4
    logs = [(tmp_path / run / "log.csv").read_bytes() for run in ("whole", "run")]
    assert logs[0] == logs[1]


def test_a_signal_during_the_last_validation_of_all_samples_leaves_only_that_to_do(
    store: CachedFeatures, tmp_path: Path
) -> None:
    curve = Curve((9.0, 0.1, 0.1), stop_at=1)
    with pytest.raises(InterruptedWorkError, match="step 2 of 2 is saved"):
        train(store, validated(steps=2), tmp_path / "run", validator=curve)
    assert not (tmp_path / "run" / "best.json").exists()

    train(store, validated(steps=2), tmp_path / "run", validator=curve)
    train(store, validated(steps=2), tmp_path / "run", validator=curve)

    assert curve.is_whole == [False, True]
    assert json.loads((tmp_path / "run" / "best.json").read_text())["NDS"] == 0.1


def test_a_run_that_begins_with_a_validation_trains_on(
    store: CachedFeatures, val_store: CachedFeatures, tmp_path: Path
) -> None:
    """Nothing that is first computed without gradients is reused with them."""
    out, chosen = tmp_path / "run", validated(steps=4)
    curve = StoreValidator(val_store, store)
    train(store, chosen, out, validator=curve, stop_after=2)
    saved = torch.load(out / "checkpoint.pt", weights_only=True)
    saved["progress"] |= {"validated_at": 0}
    torch.save(saved, out / "checkpoint.pt")

    assert train(store, chosen, out, validator=curve)["steps"] == 4


def test_a_loss_that_is_not_finite_is_never_the_best() -> None:
    progress = Progress(step=1)
    progress.note_scores({"loss": float("nan"), "mAP": None, "NDS": None}, "NDS")
    assert (progress.best_step, progress.since_best, progress.validated_at) == (0, 1, 1)

    progress.step = 2
    progress.note_scores({"loss": 5.0, "mAP": 0.0, "NDS": 0.0}, "NDS")
    assert (progress.best_step, progress.since_best) == (2, 0)

    progress.step = 3
    progress.note_scores({"loss": float("inf"), "mAP": None, "NDS": None}, "NDS")
    assert (progress.best_step, progress.since_best) == (2, 1)


@pytest.mark.parametrize("log_size", [100.0, -110.0])
def test_boxes_of_no_size_make_a_loss_that_is_not_finite(
    log_size: float, store: CachedFeatures, val_store: CachedFeatures, synthetic_root: Path
) -> None:
    """They cannot be judged; the codes that they come from are finite, and so is their loss."""
    detector = build_detector(val_store.preset).eval()
    for name, parameter in detector.named_parameters():
        if "task_heads" in name and name.endswith("dim.3.bias"):
            parameter.data[::3] = log_size  # of the width, in every layer
    validator = StoreValidator(val_store, store, nuscenes_root=synthetic_root)
    validator.prepare()
    measured = list(validator.measure(detector, is_whole=True, process=0, processes=1))
    scores = validator.judge(measured, is_whole=True, out=None)
    assert scores["loss"] is not None
    assert math.isnan(scores["loss"])
    assert scores["NDS"] is None


def test_equal_metrics_are_decided_by_the_loss() -> None:
    progress = Progress(step=1)
    for step, loss in ((1, 5.0), (2, 4.0), (3, 4.0)):
        progress.step = step
        progress.note_scores({"loss": loss, "mAP": 0.0, "NDS": 0.0}, "NDS")
    assert (progress.best_step, progress.since_best) == (2, 1)


def test_the_interval_is_what_the_recipe_says_or_an_epoch_or_that_of_checkpoints() -> None:
    by_steps, by_epochs = recipe(checkpoint_every=50), recipe(steps=None, epochs=3)

    intervals = [
        validation_interval(chosen, steps_per_epoch=7)
        for chosen in (
            by_steps,
            by_epochs,
            replace(by_steps, validate_epochs=2),
            replace(by_epochs, validate_steps=4),
        )
    ]

    assert intervals == [50, 7, 14, 4]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validate_steps": 0}, "validate_steps must be at least 1"),
        ({"patience": 0}, "patience must be at least 1"),
        ({"validation_samples": 0}, "validation_samples must be at least 1"),
        (
            {"validate_steps": 1, "validate_epochs": 1},
            "validate_epochs must be none where validate_steps is set",
        ),
        ({"best_by": "nds"}, "best_by must be NDS or mAP or loss or mean_NDS, it is 'nds'"),
    ],
)
def test_recipes_that_cannot_be_meant_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe(**changes)


def test_patience_without_validation_is_refused(store: CachedFeatures, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing is validated: name a store with --val"):
        train(store, recipe(patience=3), tmp_path / "run")


def test_a_run_is_not_resumed_with_another_validation(
    store: CachedFeatures, tmp_path: Path
) -> None:
    curve = Curve((9.0, 0.1, 0.1))
    train(store, validated(), tmp_path / "run", validator=curve, stop_after=1)

    with pytest.raises(ConfigError, match="a run with a different validation"):
        train(store, validated(), tmp_path / "run", validator=Curve((8.0, 0.1, 0.1)))
    with pytest.raises(ConfigError, match="a run with a different validation"):
        train(store, validated(), tmp_path / "run")
