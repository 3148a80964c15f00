"""Micro-batches know the global batch, and add up to it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cache.reader import CachedFeatures
from shared.data.batch import Batch
from shared.model.denoising import make_denoising_queries
from shared.model.initial_detector import fresh_detector
from shared.model.losses import BatchCounts
from stage2_train.data.dataset import StoreDataset
from stage2_train.data.loader import evaluation_batches
from stage2_train.training.global_batch import GlobalBatch
from stage2_train.training.loss_step import LossInput, LossStep

# The losses are added up in float32, whose rounding is 6e-8; the gradients in float64, measured
# 8e-12 of the largest element of their tensor.
LOSS_TOLERANCE, GRADIENT_TOLERANCE = 1e-6, 1e-9


@pytest.fixture(scope="module")
def store(tiny_store: Path) -> CachedFeatures:
    return CachedFeatures(tiny_store)


@pytest.fixture(scope="module")
def batches(store: CachedFeatures) -> list[Batch]:
    """The three samples as batches of one, with 0, 2 and some more boxes."""
    loaded = list(evaluation_batches(StoreDataset(store, store.tokens), 1, workers=0))
    for index, boxes in ((0, 0), (1, 2)):
        batch = loaded[index]
        loaded[index] = replace(
            batch,
            boxes_lidar=(batch.boxes_lidar[0][:boxes],),
            labels=(batch.labels[0][:boxes],),
        )
    assert len(loaded[2].labels[0]) > 2
    return loaded


def joined(batches: list[Batch]) -> Batch:
    return Batch(
        tokens=tuple(token for batch in batches for token in batch.tokens),
        maps={name: torch.cat([batch.maps[name] for batch in batches]) for name in batches[0].maps},
        img_from_lidar=torch.cat([batch.img_from_lidar for batch in batches]),
        boxes_lidar=tuple(boxes for batch in batches for boxes in batch.boxes_lidar),
        labels=tuple(labels for batch in batches for labels in batch.labels),
    )


def test_the_whole_batch_has_the_noise_that_a_generator_draws(
    store: CachedFeatures, batches: list[Batch]
) -> None:
    batch, preset = joined(batches), store.preset
    whole = GlobalBatch(box_counts=tuple(len(labels) for labels in batch.labels))

    ours = whole.denoising(batch, 0, preset, seed=3)
    expected = make_denoising_queries(
        batch.boxes_lidar,
        batch.labels,
        preset.head,
        preset.grid.point_range_m,
        generator=torch.Generator().manual_seed(3),
    )

    assert ours is not None
    assert expected is not None
    assert torch.equal(ours.references, expected.references)


def test_without_a_box_there_are_no_denoising_queries(
    store: CachedFeatures, batches: list[Batch]
) -> None:
    assert GlobalBatch(box_counts=(0,)).denoising(batches[0], 0, store.preset, seed=3) is None


def test_losses_and_gradients_of_micro_batches_add_up_to_those_of_the_whole(
    store: CachedFeatures, batches: list[Batch]
) -> None:
    """In float64, because the gradient of the L1 loss jumps where a prediction meets its target.

    A fresh detector predicts velocities near the 0 of a parked car. In float32 the order of
    additions, which the number of threads changes, decided on which side of it some were.
    """
    preset, batch = store.preset, joined(batches)
    whole = GlobalBatch(box_counts=tuple(len(labels) for labels in batch.labels))
    detector = fresh_detector(preset, store.cut, seed=0).double()
    module = LossStep(detector).eval()
    counts = whole.counts(preset)

    expected, _ = module(LossInput(batch, whole.denoising(batch, 0, preset, 3)))
    sum(expected.values()).backward()
    gradients = {name: values.grad.clone() for name, values in module.named_parameters()}
    module.zero_grad()
    terms = []
    for first, micro_batch in enumerate(batches):
        queries = whole.denoising(micro_batch, first, preset, 3)
        terms.append(module(LossInput(micro_batch, queries, counts))[0])
        sum(terms[-1].values()).backward()

    assert counts == BatchCounts(
        samples=3,
        matched=sum(whole.box_counts),
        copies=len(whole.denoising(batch, 0, preset, 3).slot),  # type: ignore[union-attr]
    )
    for name, value in expected.items():
        added = sum(of_batch[name] for of_batch in terms).item()
        assert added == pytest.approx(value.item(), rel=LOSS_TOLERANCE)
    for name, values in module.named_parameters():
        scale = float(gradients[name].abs().max())
        largest_gap = float((values.grad - gradients[name]).abs().max())
        assert largest_gap <= GRADIENT_TOLERANCE * scale, name
