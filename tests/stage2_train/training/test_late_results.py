"""Results read a step late, as on a GPU: the same run, and its errors name the right step."""

from pathlib import Path

import pytest
import torch

from cache.reader import CachedFeatures
from shared.config.preset_catalogue import tiny
from shared.errors import TrainingError
from shared.model.losses import total_loss
from stage2_train.run.run_folder import RunFolder
from stage2_train.training import assembly, training_step
from stage2_train.training.build import train
from stage2_train.training.loss_step import LossStep
from tests.stage2_train.run.test_run_folder import columns
from tests.stage2_train.training.synthetic_batches import random_batch, take
from tests.stage2_train.training.synthetic_batches import training_step as make_step
from tests.stage2_train.training.test_training import recipe, weights

FUSED = 1e-5  # relative; AdamW in one kernel rounds differently, measured 2e-7 after 6 steps


@pytest.fixture(scope="module")
def store(tiny_store: Path) -> CachedFeatures:
    return CachedFeatures(tiny_store)


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "reads_results_late", lambda device: True)


def poison_step(monkeypatch: pytest.MonkeyPatch, bad_step: int) -> None:
    """Make the total loss of a step infinite, with gradients of 1."""
    honest, calls = total_loss, []

    def poisoned(losses: dict[str, torch.Tensor]) -> torch.Tensor:
        calls.append(losses)
        total = honest(losses)
        return total + torch.inf if len(calls) == bad_step + 1 else total

    monkeypatch.setattr(training_step, "total_loss", poisoned)


def test_a_run_has_the_log_of_one_that_reads_at_once(
    store: CachedFeatures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = recipe(learning_rate=1e-6)  # at higher rates rounding grows from step to step
    train(store, slow, tmp_path / "at_once")
    monkeypatch.setattr(assembly, "reads_results_late", lambda device: True)
    result = train(store, slow, tmp_path / "late")

    expected, ours = (columns(tmp_path / run / "log.csv") for run in ("at_once", "late"))
    assert ours.keys() == expected.keys()
    assert ours["step"] == [1, 2, 3, 4, 5, 6]
    for name, values in expected.items():
        assert ours[name] == pytest.approx(values, rel=FUSED, abs=1e-6), name
    assert columns(tmp_path / "late" / "timing.csv")["step"] == [1, 2, 3, 4, 5, 6]
    assert result["last_loss"] == ours["loss"][-1]


def test_a_resumed_run_ends_with_the_bits_of_an_undisturbed_one(
    store: CachedFeatures, tmp_path: Path, late: None
) -> None:
    averaging = recipe(ema_decay=0.5)
    train(store, averaging, tmp_path / "whole")
    train(store, averaging, tmp_path / "parts", stop_after=2)
    train(store, averaging, tmp_path / "parts")

    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    logs = [(tmp_path / run / "log.csv").read_text() for run in ("whole", "parts")]
    assert logs[0] == logs[1]


def test_a_gradient_that_is_not_finite_stops_the_run_a_step_later_and_names_its_own(
    store: CachedFeatures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: None
) -> None:
    train(store, recipe(), tmp_path / "good", stop_after=3)
    poison_step(monkeypatch, bad_step=3)

    with pytest.raises(TrainingError, match=r"step 3, samples .*: a gradient is not finite"):
        train(store, recipe(checkpoint_every=1), tmp_path / "run")

    saved = RunFolder(tmp_path / "run").load()
    assert saved is not None
    assert saved["step"] == 3
    good = weights(tmp_path / "good")
    assert all(torch.equal(good[name], saved["state_dict"][name]) for name in good)
    assert columns(tmp_path / "run" / "log.csv")["step"] == [1, 2, 3]


def test_between_checkpoints_the_step_after_does_not_hide_it(
    store: CachedFeatures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: None
) -> None:
    poison_step(monkeypatch, bad_step=1)

    with pytest.raises(TrainingError, match=r"step 1, samples .*: a gradient is not finite"):
        train(store, recipe(), tmp_path / "run")

    assert RunFolder(tmp_path / "run").load() is None
    assert columns(tmp_path / "run" / "log.csv")["step"] == [1]


def test_a_step_that_does_not_fit_into_the_gpu_is_an_error_with_a_remedy_and_the_run_resumes(
    store: CachedFeatures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: None
) -> None:
    train(store, recipe(), tmp_path / "run", stop_after=2)

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nSee ...")

    expected = r"step 2 needs more .*: CUDA out .* 2 GiB\. What .* --set accumulate=2"
    with monkeypatch.context() as patched:
        patched.setattr(LossStep, "forward", full)
        with pytest.raises(TrainingError, match=expected):
            train(store, recipe(), tmp_path / "run")

    assert train(store, recipe(), tmp_path / "run")["steps"] == 6


def test_a_step_that_is_not_finite_updates_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    step = make_step(recipe(precision="32-true"), tiny(), reads_late=True)
    batch = random_batch(tiny(), (2, 3))
    take(step, batch).read()
    detector, optimizer = step.raw_module.detector, step.raw_optimizer
    before = {name: values.clone() for name, values in detector.named_parameters()}
    moments = [
        {key: value.clone() for key, value in state.items()} for state in optimizer.state.values()
    ]
    poison_step(monkeypatch, bad_step=0)

    queued = take(step, batch, 1)

    assert all(torch.equal(before[name], values) for name, values in detector.named_parameters())
    for kept, state in zip(moments, optimizer.state.values(), strict=True):
        assert all(torch.equal(kept[key], state[key]) for key in kept)
    with pytest.raises(TrainingError, match=r"step 1, samples sample0, sample1: a gradient"):
        queued.read()
