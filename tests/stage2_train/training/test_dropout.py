"""Dropout, which the preset `tiny` does without: drawn in training, anew but the same on resuming.

And never in evaluation.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from cache.reader import CachedFeatures
from shared.config.preset import Preset
from shared.config.preset_catalogue import tiny
from shared.model.initial_detector import fresh_detector
from stage2_train.data.dataset import StoreDataset
from stage2_train.data.loader import BatchLoader, evaluation_batches
from stage2_train.data.training_batches import TrainingBatches
from stage2_train.evaluation.detections import detect
from stage2_train.recipes.recipe import Recipe
from stage2_train.training.assembly import train_batches
from stage2_train.training.build import training_order
from stage2_train.training.global_batch import GlobalBatch
from tests.stage2_train.run.test_run_folder import columns
from tests.stage2_train.training.synthetic_batches import random_batch, take, training_step
from tests.stage2_train.training.test_training import recipe, weights

# So small a rate is 0 in float32: only what is drawn differs from step to step.
STILL = recipe(learning_rate=1e-300, precision="32-true")


@pytest.fixture(scope="module")
def store(tiny_store: Path) -> CachedFeatures:
    return CachedFeatures(tiny_store)


def dropping() -> Preset:
    return replace(tiny(), head=replace(tiny().head, dropout=0.3))


def losses_of_steps(preset: Preset, steps: tuple[int, ...]) -> list[dict[str, float]]:
    step = training_step(STILL, preset, reads_late=False)
    batch = random_batch(preset, (2, 3))
    return [take(step, batch, index).read().scalars for index in steps]


def test_every_step_draws_its_own_dropout_and_noise_and_the_same_again() -> None:
    """`loss_bbox` is of ordinary queries, which see no noise; `dn_loss_bbox` of noised ones."""
    plain, dropped = (losses_of_steps(preset, (0, 1, 0)) for preset in (tiny(), dropping()))
    for first, second, again in (plain, dropped):
        assert first["dn_loss_bbox"] != second["dn_loss_bbox"]
        assert again == first
    assert plain[0]["loss_bbox"] == plain[1]["loss_bbox"]
    assert dropped[0]["loss_bbox"] != dropped[1]["loss_bbox"]
    assert dropped[0]["loss_bbox"] != plain[0]["loss_bbox"]


def test_every_pass_of_a_step_draws_its_own_dropout() -> None:
    seen: list[float] = []
    for preset in (tiny(), dropping()):
        step = training_step(replace(STILL, accumulate=2), preset, reads_late=False)
        step.raw_module.register_forward_hook(
            lambda _module, _inputs, outputs: seen.append(outputs[0]["loss_bbox"].item())
        )
        batch = random_batch(preset, (2, 3))
        step.take([batch, batch], GlobalBatch(box_counts=(2, 3, 2, 3)), 0).read()
    assert len(seen) == 4
    assert seen[0] == seen[1]
    assert seen[2] != seen[3]


def train(store: CachedFeatures, preset: Preset, own: Recipe, out: Path, **stop: int) -> Path:
    """Train a preset of the store's features, which do not depend on dropout."""
    dataset = StoreDataset(store, store.tokens)
    batches = TrainingBatches(
        order=partial(training_order, store, own), load=partial(BatchLoader, dataset, workers=0)
    )
    origin = {"features": store.features_digest, "backbones": {}, "started_from": None}
    detector = fresh_detector(preset, seed=own.seed)
    train_batches(batches, detector, own, out, samples="of the test", origin=origin, **stop)
    return out


def test_a_resumed_run_draws_the_dropout_of_an_undisturbed_one(
    store: CachedFeatures, tmp_path: Path
) -> None:
    own = recipe(precision="32-true")
    whole = train(store, dropping(), own, tmp_path / "whole")
    torch.manual_seed(1234)  # whatever was drawn before
    train(store, dropping(), own, tmp_path / "parts", stop_after=2)
    torch.rand(5)
    parts = train(store, dropping(), own, tmp_path / "parts")

    assert (whole / "log.csv").read_text() == (parts / "log.csv").read_text()
    undisturbed, resumed = weights(whole), weights(parts)
    assert all(torch.equal(undisturbed[name], value) for name, value in resumed.items())
    plain = train(store, tiny(), own, tmp_path / "plain", stop_after=1)
    assert columns(plain / "log.csv")["loss"][0] != columns(whole / "log.csv")["loss"][0]


def test_the_statistics_of_trained_batch_norms_move(store: CachedFeatures, tmp_path: Path) -> None:
    run = train(store, tiny(), recipe(precision="32-true"), tmp_path / "run", stop_after=1)
    name = "pts_neck.deblocks.0.1.running_mean"
    assert not torch.equal(weights(run)[name], fresh_detector(tiny(), seed=0).state_dict()[name])


def test_evaluation_drops_nothing(store: CachedFeatures) -> None:
    results = []
    for preset, seed in ((dropping(), 0), (dropping(), 1), (tiny(), 0)):
        torch.manual_seed(seed)
        detector = fresh_detector(preset, seed=0).train()
        batches = evaluation_batches(StoreDataset(store, store.tokens), 2, workers=0)
        results.append(dict(detect(detector, batches, store)))
    assert any(results[0].values())
    assert results[0] == results[1] == results[2]
