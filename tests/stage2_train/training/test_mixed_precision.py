"""bfloat16 and float16 train; skipped float16 steps are counted, and not endless."""

import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from cache.reader import CachedFeatures
from shared.errors import ConfigError, TrainingError
from shared.model.detector import CmtDetector
from shared.model.initial_detector import fresh_detector
from shared.model.outputs import HeadOutputs
from shared.process.autocast import allow_tf32
from stage2_train.run.run_folder import RunFolder
from stage2_train.training import assembly, distributed, trainer
from stage2_train.training.build import train
from tests.stage2_train.run.test_run_folder import columns
from tests.stage2_train.training.synthetic_batches import random_batch, small, take, training_step
from tests.stage2_train.training.test_training import recipe

FIRST_SCALE = 65_536.0
# Without gradients of the convolutions over the BEV map, which take a CPU most of a float16 step.
half_recipe = partial(
    recipe, precision="16-mixed", frozen=("pts_neck", "pts_bbox_head.shared_conv")
)


@pytest.fixture(scope="module")
def store(tiny_store: Path) -> CachedFeatures:
    return CachedFeatures(tiny_store)


def test_bfloat16_has_nearly_the_losses_of_float32(store: CachedFeatures, tmp_path: Path) -> None:
    exact, rounded = (
        train(store, recipe(steps=1, precision=precision), tmp_path / precision)["first_loss"]
        for precision in ("32-true", "bf16-mixed")
    )

    assert rounded == pytest.approx(exact, rel=0.02)
    assert rounded != exact


def test_steps_whose_gradient_overflows_in_float16_are_skipped_counted_and_resumed(
    store: CachedFeatures, tmp_path: Path
) -> None:
    """The gradients of a fresh detector are so large that the first scales overflow."""
    half, out = half_recipe(steps=3, ema_decay=0.5), tmp_path / "run"

    train(store, half, out, stop_after=1)
    train(store, half, out)

    saved = RunFolder(out).load()
    assert saved is not None
    assert columns(out / "log.csv")["skipped_steps"] == [1, 2, 3]
    assert saved["scaler"]["scale"] == FIRST_SCALE / 2**3
    for name, values in fresh_detector(store.preset, seed=0).named_parameters():
        assert torch.equal(saved["state_dict"][name], values)
        assert torch.equal(saved["ema"][name], values)


def test_a_skipped_step_after_one_that_was_taken_does_not_count_in_the_average(
    store: CachedFeatures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half, out = half_recipe(steps=2, ema_decay=0.5), tmp_path / "run"
    # A scale at which the gradients of a fresh detector do not overflow; then one at which they do.
    scaler = partial(torch.amp.GradScaler, init_scale=1.0)
    with monkeypatch.context() as patched:
        patched.setattr(torch.amp, "GradScaler", scaler)
        train(store, half, out, stop_after=1)
    before = torch.load(out / "checkpoint.pt", weights_only=True)
    torch.save(before | {"scaler": before["scaler"] | {"scale": 2.0**40}}, out / "checkpoint.pt")

    train(store, half, out)

    assert columns(out / "log.csv")["skipped_steps"] == [0, 1]
    after = torch.load(out / "checkpoint.pt", weights_only=True)
    trained = [name for name, _ in fresh_detector(store.preset, seed=0).named_parameters()]
    assert any(not torch.equal(before["state_dict"][n], before["ema"][n]) for n in trained)
    for name in trained:
        assert torch.equal(after["ema"][name], before["ema"][name])


def test_gradients_are_clipped_and_logged_without_their_scale(
    store: CachedFeatures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scaler = partial(torch.amp.GradScaler, init_scale=0.25)  # at which nothing overflows
    monkeypatch.setattr(torch.amp, "GradScaler", scaler)

    exact, ours = (
        train(store, half_recipe(steps=1, precision=precision), tmp_path / precision)
        and columns(tmp_path / precision / "log.csv")["grad_norm"]
        for precision in ("32-true", "16-mixed")
    )

    assert ours == pytest.approx(exact, rel=0.1)


def test_too_many_skipped_steps_in_a_row_stop_the_run(
    store: CachedFeatures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "SKIPPED_IN_A_ROW", 2)

    with pytest.raises(TrainingError, match=r"step 2, samples .*: 3 steps in a row were skipped"):
        train(store, half_recipe(), tmp_path / "run")


def test_a_gradient_that_is_not_finite_stops_a_run_in_float32(
    store: CachedFeatures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poisoned(losses: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.stack(list(losses.values())).sum() * float("nan")

    monkeypatch.setattr("stage2_train.training.training_step.total_loss", poisoned)

    with pytest.raises(TrainingError, match=r"step 0, samples .*: a gradient is not finite"):
        train(store, recipe(), tmp_path / "run")


@pytest.mark.parametrize("broken", ["class_logits", "velocity_mps"])
def test_a_step_whose_outputs_overflow_in_float16_is_skipped_with_a_lower_scale(
    monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """Class logits enter the matching costs, velocities only the losses."""
    step = training_step(recipe(precision="16-mixed"), small(), reads_late=False)
    assert step.scaler is not None
    # A scale at which the gradients of a fresh detector do not overflow.
    step.scaler.load_state_dict(step.scaler.state_dict() | {"scale": 1.0})
    batch = random_batch(small(), (2, 3))
    assert not take(step, batch).read().was_skipped
    detector = step.raw_module.detector
    before = {name: values.clone() for name, values in detector.state_dict().items()}
    honest = CmtDetector.forward

    def overflowing(self: CmtDetector, *inputs: Any) -> HeadOutputs:
        outputs = honest(self, *inputs)
        return replace(outputs, **{broken: getattr(outputs, broken) * torch.inf})

    def spoil_statistics() -> None:
        detector.get_buffer("pts_neck.deblocks.0.1.running_mean").fill_(torch.inf)

    monkeypatch.setattr(CmtDetector, "forward", overflowing)
    monkeypatch.setattr(step.proof, "check_flags", spoil_statistics)  # after the backward pass
    result = take(step, batch, 1).read()

    assert result.was_skipped
    assert not math.isfinite(result.loss)
    assert step.scaler.get_scale() == 0.5
    for name, values in detector.state_dict().items():
        assert torch.equal(values, before[name]), name


def test_a_run_continues_after_an_overflow_and_counts_it(
    store: CachedFeatures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, calls = CmtDetector.forward, []

    def overflowing(self: CmtDetector, *inputs: Any) -> HeadOutputs:
        outputs = honest(self, *inputs)
        calls.append(inputs)
        return replace(
            outputs, class_logits=outputs.class_logits * (math.nan if len(calls) == 2 else 1)
        )

    monkeypatch.setattr(CmtDetector, "forward", overflowing)

    result = train(store, half_recipe(steps=3), tmp_path / "run")

    log = columns(tmp_path / "run" / "log.csv")
    assert result["steps"] == 3
    assert log["skipped_steps"] == [1, 2, 3]  # the first scales are too high for a fresh detector
    assert [math.isfinite(loss) for loss in log["loss"]] == [True, False, True]


@pytest.mark.parametrize(
    ("device", "has_bfloat16", "expected"),
    [("cpu", False, "32-true"), ("cuda", True, "bf16-mixed"), ("cuda", False, "16-mixed")],
)
def test_automatic_precision_is_what_the_device_computes_in(
    monkeypatch: pytest.MonkeyPatch, device: str, has_bfloat16: bool, expected: str
) -> None:
    monkeypatch.setattr(distributed, "available_device", lambda: torch.device(device))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bfloat16)

    assert distributed.resolved_precision(recipe(precision="auto")) == expected
    assert distributed.resolved_precision(recipe(precision="32-true")) == "32-true"


def test_a_run_keeps_the_precision_it_started_with(
    store: CachedFeatures,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    train(store, recipe(steps=1), tmp_path / "run")

    assert json.loads((tmp_path / "run" / "config.json").read_text())["precision"] == "32-true"
    saved = RunFolder(tmp_path / "run").load()
    assert saved is not None
    assert saved["precision"] == "32-true"
    assert "with recipe test in 32-true" in caplog.text
    monkeypatch.setattr(assembly, "resolved_precision", lambda recipe: "bf16-mixed")
    with pytest.raises(ConfigError, match="holds a run with a different precision"):
        train(store, recipe(steps=1), tmp_path / "run")


def test_tf32_is_used_only_where_a_recipe_says_so() -> None:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        for is_allowed in (True, False):
            allow_tf32(is_allowed)
            assert torch.backends.cuda.matmul.allow_tf32 == is_allowed
            assert torch.backends.cudnn.allow_tf32 == is_allowed
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
    assert not recipe().tf32
