"""bfloat16 and float16 train; skipped float16 steps are counted, and not endless."""

from pathlib import Path

import pytest
import torch

from cache.reader import CachedFeatures
from shared.errors import TrainingError
from shared.model.initial_detector import fresh_detector
from stage2_train.run.run_folder import RunFolder
from stage2_train.training import trainer
from stage2_train.training.build import train
from tests.stage2_train.run.test_run_folder import columns
from tests.stage2_train.training.test_training import recipe

FIRST_SCALE = 65_536.0


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
    half, out = recipe(steps=3, precision="16-mixed", ema_decay=0.5), tmp_path / "run"

    train(store, half, out, stop_after=1)
    train(store, half, out)

    saved = RunFolder(out).load()
    assert saved is not None
    assert columns(out / "log.csv")["skipped_steps"] == [1, 2, 3]
    assert saved["scaler"]["scale"] == FIRST_SCALE / 2**3
    for name, values in fresh_detector(store.preset, seed=0).named_parameters():
        assert torch.equal(saved["state_dict"][name], values)
        assert torch.equal(saved["ema"][name], values)


def test_too_many_skipped_steps_in_a_row_stop_the_run(
    store: CachedFeatures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "SKIPPED_IN_A_ROW", 2)

    with pytest.raises(TrainingError, match=r"step 2, samples .*: 3 steps in a row were skipped"):
        train(store, recipe(precision="16-mixed"), tmp_path / "run")


def test_a_gradient_that_is_not_finite_stops_a_run_in_float32(
    store: CachedFeatures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poisoned(losses: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.stack(list(losses.values())).sum() * float("nan")

    monkeypatch.setattr("stage2_train.training.training_step.total_loss", poisoned)

    with pytest.raises(TrainingError, match=r"step 0, samples .*: a gradient is not finite"):
        train(store, recipe(), tmp_path / "run")
