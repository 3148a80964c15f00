"""Denoising queries: slots, masks and noise, by hand."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from shared.config.head_config import Denoising, HeadConfig
from shared.model.denoising import denoising_groups, make_denoising_queries

RANGE_M = (-10.0, -20.0, -5.0, 10.0, 20.0, 3.0)
Pair = tuple[Tensor, Tensor]


def still(copies: int) -> Tensor:
    return torch.zeros(copies, 3)


def test_copies_take_the_slots_of_their_group(
    config: HeadConfig, boxes: Pair, labels: Pair
) -> None:
    """Samples with 2 and 1 boxes, 2 groups: slots 0 1 | 2 3, the second sample leaves 1 and 3."""
    queries = make_denoising_queries(boxes, labels, config, RANGE_M, noise=still(6))
    assert queries is not None
    assert queries.sample.tolist() == [0, 0, 1, 0, 0, 1]
    assert queries.slot.tolist() == [0, 1, 0, 2, 3, 2]
    assert queries.labels.tolist() == [3, 0, 1, 3, 0, 1]
    assert torch.equal(queries.boxes_lidar, torch.cat([*boxes, *boxes]))
    # (1, -2, 0.5) of -10..10, -20..20, -5..3
    torch.testing.assert_close(queries.references[0, 2], torch.tensor([0.55, 0.45, 0.6875]))
    assert torch.equal(queries.references[1, 1], torch.zeros(3))
    assert queries.references.shape == (2, 4, 3)


def test_a_group_sees_itself_and_the_ordinary_queries(config: HeadConfig, boxes, labels) -> None:
    config = replace(config, queries=5)
    queries = make_denoising_queries(boxes, labels, config, RANGE_M, noise=still(6))
    assert queries is not None
    rows = ["0011" + "00000"] * 2 + ["1100" + "00000"] * 2 + ["1111" + "00000"] * 5
    expected = torch.tensor([[cell == "1" for cell in row] for row in rows])
    assert torch.equal(queries.blocked, expected)


def test_noise_is_half_the_box_at_most(config: HeadConfig, boxes: Pair, labels: Pair) -> None:
    config = replace(config, denoising=Denoising(groups=1, noise_scale=0.5, noise_offset_m=1.0))
    noise = still(3)
    noise[0, 0] = 1.0  # (length 4 / 2 + 1) * 0.5 = 1.5 m along x
    queries = make_denoising_queries(boxes, labels, config, RANGE_M, noise=noise)
    assert queries is not None
    assert queries.references[0, 0, 0].item() == pytest.approx((1.0 + 1.5 + 10) / 20)


def test_a_copy_noised_too_far_counts_as_background(config: HeadConfig, boxes, labels) -> None:
    noise = still(6)
    noise[1] = torch.tensor([0.6, 0.6, 0.0])  # norm 0.85
    noise[2] = torch.tensor([0.5, 0.5, 0.0])  # norm 0.71
    queries = make_denoising_queries(boxes, labels, config, RANGE_M, noise=noise)
    assert queries is not None
    assert queries.labels.tolist() == [3, config.classes, 1, 3, 0, 1]


def test_references_are_clamped_to_the_range(config: HeadConfig, labels: Pair) -> None:
    outside = torch.tensor([[99.0, -99.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0]])
    queries = make_denoising_queries(
        [outside], [labels[1]], config, RANGE_M, noise=still(config.denoising.groups)
    )
    assert queries is not None
    assert queries.references[0, 0, :2].tolist() == [1.0, 0.0]


def test_without_noise_upstream_leaves_the_centres_in_metres(config, boxes, labels) -> None:
    config = replace(config, denoising=Denoising(groups=1, noise_scale=0.0))
    queries = make_denoising_queries(boxes, labels, config, RANGE_M, noise=torch.ones(3, 3))
    assert queries is not None
    assert torch.equal(queries.references[0, 0], boxes[0][0, :3])
    assert queries.labels.tolist() == [3, 0, 1]


def test_the_number_of_groups_is_limited_by_the_fullest_sample(config: HeadConfig) -> None:
    """Five queries hold five copies of a single box, two of two boxes, none of six."""
    generous = replace(config, denoising=Denoising(groups=10))
    counts = {n: denoising_groups(n, generous) for n in (1, 2, 6)}
    assert counts == {1: 5, 2: 2, 6: 0}


def test_no_box_at_all_gives_no_queries(config: HeadConfig, no_boxes, no_labels) -> None:
    generator = torch.Generator()
    assert make_denoising_queries(no_boxes, no_labels, config, RANGE_M, generator=generator) is None


def test_more_boxes_than_queries_give_no_queries(config: HeadConfig) -> None:
    boxes, labels = [torch.ones(6, 9)], [torch.zeros(6, dtype=torch.int64)]
    assert make_denoising_queries(boxes, labels, config, RANGE_M, noise=still(6)) is None


def test_a_sample_without_boxes_has_only_empty_slots(
    config, boxes, labels, no_boxes, no_labels
) -> None:
    queries = make_denoising_queries(
        [boxes[0], no_boxes[1]], [labels[0], no_labels[1]], config, RANGE_M, noise=still(4)
    )
    assert queries is not None
    assert queries.sample.tolist() == [0, 0, 0, 0]
    assert torch.equal(queries.references[1], torch.zeros(4, 3))


def test_the_same_seed_gives_the_same_noise(config: HeadConfig, boxes: Pair, labels: Pair) -> None:
    drawn = [
        make_denoising_queries(
            boxes, labels, config, RANGE_M, generator=torch.Generator().manual_seed(seed)
        )
        for seed in (5, 5, 6)
    ]
    first, again, reseeded = [queries.references for queries in drawn if queries is not None]
    assert torch.equal(first, again)
    assert not torch.equal(first, reseeded)


def test_noise_comes_from_exactly_one_source(config: HeadConfig, boxes: Pair, labels: Pair) -> None:
    with pytest.raises(ValueError, match="exactly one of"):
        make_denoising_queries(boxes, labels, config, RANGE_M)
    with pytest.raises(ValueError, match="exactly one of"):
        make_denoising_queries(
            boxes, labels, config, RANGE_M, generator=torch.Generator(), noise=still(6)
        )


def test_misshapen_noise_is_refused(config: HeadConfig, boxes: Pair, labels: Pair) -> None:
    with pytest.raises(ValueError, match=r"expected \(6, 3\).*got \(5, 3\)"):
        make_denoising_queries(boxes, labels, config, RANGE_M, noise=still(5))
