"""Parts of a batch know what the whole is, and add up to it."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from cache.reader import CachedFeatures
from shared.data.batch import Batch
from shared.errors import ConfigError
from shared.model.denoising import make_denoising_queries
from shared.model.initial_detector import fresh_detector
from shared.model.losses import BatchCounts
from stage2_train.data.dataset import StoreDataset
from stage2_train.data.loader import evaluation_batches
from stage2_train.data.sampler import EpochSampler
from stage2_train.training.global_batch import GlobalBatch, Shares
from stage2_train.training.loss_step import LossStep, Work


@pytest.fixture(scope="module")
def store(tiny_store: Path) -> CachedFeatures:
    return CachedFeatures(tiny_store)


@pytest.fixture(scope="module")
def batches(store: CachedFeatures) -> list[Batch]:
    """The three samples as batches of one, with 0, 2 and some more boxes."""
    found = list(evaluation_batches(StoreDataset(store, store.tokens), 1, workers=0))
    for index, boxes in ((0, 0), (1, 2)):
        one = found[index]
        found[index] = replace(
            one,
            boxes_lidar=(one.boxes_lidar[0][:boxes],),
            labels=(one.labels[0][:boxes],),
        )
    assert len(found[2].labels[0]) > 2
    return found


def joined(batches: list[Batch]) -> Batch:
    return Batch(
        tokens=tuple(token for one in batches for token in one.tokens),
        maps={name: torch.cat([one.maps[name] for one in batches]) for name in batches[0].maps},
        img_from_lidar=torch.cat([one.img_from_lidar for one in batches]),
        boxes_lidar=tuple(boxes for one in batches for boxes in one.boxes_lidar),
        labels=tuple(labels for one in batches for labels in one.labels),
    )


def test_every_process_gets_its_own_part_of_each_batch_pass_by_pass() -> None:
    order = EpochSampler(samples=8, batch_size=8, seed=0)
    shares = [
        list(islice(Shares(order, 8, process=process, processes=2, passes=2), 4))
        for process in range(2)
    ]

    first, second = islice(iter(order), 2)
    assert [place for share in shares for part in share[:2] for place in part] == first
    assert [place for share in shares for part in share[2:] for place in part] == second
    assert {len(part) for share in shares for part in share} == {2}


def test_a_batch_that_cannot_be_shared_evenly_is_refused() -> None:
    with pytest.raises(ConfigError, match="batch of 6 samples cannot be shared evenly by 2 proces"):
        Shares([], 6, process=0, processes=2, passes=2)


def test_one_share_has_the_noise_that_one_generator_draws(
    store: CachedFeatures, batches: list[Batch]
) -> None:
    batch, preset = joined(batches), store.preset
    whole = GlobalBatch(box_counts=tuple(len(one) for one in batch.labels))

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


def test_without_any_box_there_is_nothing_to_noise(
    store: CachedFeatures, batches: list[Batch]
) -> None:
    assert GlobalBatch(box_counts=(0,)).denoising(batches[0], 0, store.preset, seed=3) is None


def test_losses_and_gradients_of_the_parts_add_up_to_those_of_the_whole(
    store: CachedFeatures, batches: list[Batch]
) -> None:
    preset, batch = store.preset, joined(batches)
    whole = GlobalBatch(box_counts=tuple(len(one) for one in batch.labels))
    module = LossStep(fresh_detector(preset, store.cut, seed=0), preset).eval()
    counts = whole.counts(preset)

    expected, _ = module(Work(batch, whole.denoising(batch, 0, preset, 3)))
    sum(expected.values()).backward()
    gradients = {name: one.grad.clone() for name, one in module.named_parameters()}
    module.zero_grad()
    parts = []
    for first, one in enumerate(batches):
        parts.append(module(Work(one, whole.denoising(one, first, preset, 3), counts))[0])
        sum(parts[-1].values()).backward()

    assert counts == BatchCounts(
        samples=3,
        matched=sum(whole.box_counts),
        copies=len(whole.denoising(batch, 0, preset, 3).slot),  # type: ignore[union-attr]
    )
    for name, value in expected.items():
        assert sum(part[name] for part in parts).item() == pytest.approx(value.item(), rel=1e-5)
    for name, one in module.named_parameters():
        scale = float(gradients[name].abs().max())
        assert torch.allclose(one.grad, gradients[name], rtol=0, atol=1e-4 * scale), name
