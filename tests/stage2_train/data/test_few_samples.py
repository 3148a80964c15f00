"""Class-balanced training works on as few samples as there are, and says when it cannot."""

import csv
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cache.reader import CachedFeatures
from shared.errors import ConfigError
from stage2_train.data.class_balance import ClassBalance
from stage2_train.data.sampler import EpochSampler
from stage2_train.recipes.recipe import Recipe
from stage2_train.run.run_files import TIMING
from stage2_train.training.build import train

CLASSES = 10


def present_in(*samples: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which classes occur in the samples, from their numbers."""
    present = np.zeros((len(samples), CLASSES), np.bool_)
    for row, classes in zip(present, samples, strict=True):
        row[list(classes)] = True
    return present


@pytest.mark.parametrize(
    ("samples", "draws"),
    [
        ([(3,)], 1),
        ([(0, 9)], 2),
        ([(0, 1), (0,)], 2),
        ([(), (5,), ()], 1),  # samples without boxes are never drawn
        ([(0, 1, 2), (0, 1), (0,)], 3),  # six pairs: fewer draws than classes
        ([(0, 1, 2, 3, 4), (0, 1, 2, 3), ()], 5),  # nine pairs
        ([tuple(range(10))], 10),  # as many as classes
        ([tuple(range(10)), (0,)], 10),
    ],
)
@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_every_class_that_occurs_is_drawn(
    samples: list[tuple[int, ...]], draws: int, batch_size: int
) -> None:
    present = present_in(*samples)
    balance = ClassBalance(present)
    sampler = EpochSampler(len(samples), batch_size, seed=0, balance=balance)

    epoch = [place.sample for place in sampler.epoch(0)]

    assert len(epoch) == len(balance) == draws
    assert sampler.steps_per_epoch == max(1, draws // batch_size)
    drawn = present[epoch].any(axis=0)
    assert (drawn >= present.any(axis=0)).all()
    assert all(present[sample].any() for sample in epoch)
    batches = iter(sampler)
    assert [len(next(batches)) for _ in range(3)] == [min(batch_size, draws)] * 3


@pytest.mark.parametrize("count", [1, 2, 3])
def test_samples_without_any_box_are_refused(count: int) -> None:
    with pytest.raises(ConfigError, match=f"none of {count} samples has a box of a class"):
        ClassBalance(present_in(*[()] * count))


def test_a_store_with_a_single_box_of_a_class_is_trained_on(
    tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CachedFeatures(tiny_store)
    labels = dict.fromkeys(store.tokens, np.array([], np.int64))
    labels[store.tokens[1]] = np.array([4])
    monkeypatch.setattr(store, "labels", labels.__getitem__)
    recipe = Recipe(name="few", steps=2, batch_size=2, class_balanced=True)

    assert train(store, recipe, tmp_path / "run")["steps"] == 2


def test_a_store_smaller_than_a_batch_is_a_batch_whose_own_samples_count(
    tiny_store: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe, run = Recipe(name="few", steps=1, batch_size=60), tmp_path / "run"
    with caplog.at_level("INFO"):
        train(CachedFeatures(tiny_store), recipe, run)
    assert "3 samples, steps 0 to 1, batch 3 on 1 device\n" in caplog.text
    with (run / TIMING).open(newline="") as file:
        (row,) = csv.DictReader(file)
    seconds = sum(float(row[name]) for name in row if name.startswith("seconds/"))
    assert float(row["samples_per_second"]) == pytest.approx(3 / seconds)
