"""Training and evaluation take a store in 8 bit like any other."""

from pathlib import Path

import pytest
import torch

from cache.reader import CachedFeatures
from stage2_train.data.dataset import StoreDataset
from stage2_train.data.loader import BatchLoader, evaluation_batches
from stage2_train.data.sampler import EpochSampler
from stage2_train.evaluation.detections import detect
from stage2_train.run.trained_detector import load_detector
from stage2_train.training.build import train
from tests.stage2_train.training.test_training import recipe


def test_batches_are_in_8_bit_until_they_are_moved(tiny_store_8bit: Path) -> None:
    dataset = StoreDataset(CachedFeatures(tiny_store_8bit), CachedFeatures(tiny_store_8bit).tokens)
    for loader in (
        BatchLoader(dataset, EpochSampler(3, 2, 0), workers=1),
        evaluation_batches(dataset, 2, workers=0),
    ):
        batch = next(iter(loader))
        assert not batch.maps
        assert {quantised.values.dtype for quantised in batch.quantised.values()} == {torch.uint8}


def test_its_losses_are_nearly_those_of_a_float16_store(
    tiny_store: Path, tiny_store_8bit: Path, tmp_path: Path
) -> None:
    losses = [
        train(CachedFeatures(path), recipe(steps=3), tmp_path / path.name)
        for path in (tiny_store, tiny_store_8bit)
    ]
    first, last = ([result[name] for result in losses] for name in ("first_loss", "last_loss"))
    assert first[1] == pytest.approx(first[0], rel=0.01)
    assert last[1] == pytest.approx(last[0], rel=0.03)
    assert first[1] != first[0]


def test_a_model_trained_in_8_bit_is_evaluated_on_float16_and_vice_versa(
    tiny_store: Path, tiny_store_8bit: Path, tmp_path: Path
) -> None:
    """The features differ only by rounding, which the store's identity records."""
    for trained_on, evaluated_on in ((tiny_store, tiny_store_8bit), (tiny_store_8bit, tiny_store)):
        run = tmp_path / trained_on.name
        train(CachedFeatures(trained_on), recipe(steps=1), run)
        store = CachedFeatures(evaluated_on)
        batches = evaluation_batches(StoreDataset(store, store.tokens), 2, workers=0)
        results = dict(detect(load_detector(run, store), batches, store))
        assert set(results) == set(store.tokens)
        assert any(results.values())
