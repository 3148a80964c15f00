"""The assignment against brute force, and its edge cases."""

from dataclasses import replace
from itertools import permutations

import pytest
import torch
from torch import Tensor

from shared.config.head_config import HeadConfig
from shared.model.matcher import match, matching_cost
from shared.model.outputs import HeadOutputs

Pair = tuple[Tensor, Tensor]


def test_the_assignment_is_the_cheapest_of_all(outputs, boxes, labels, config: HeadConfig) -> None:
    matches = match(outputs, boxes, labels, config)
    start = 0
    for sample, (own, classes) in enumerate(zip(boxes, labels, strict=True)):
        cost = matching_cost(
            outputs.codes[:, sample], outputs.class_logits[:, sample], own, classes, config
        ).detach()
        chosen = matches.sample == sample
        for layer in range(config.layers):
            best = min(
                sum(cost[layer, query, box].item() for box, query in enumerate(order))
                for order in permutations(range(config.queries), len(own))
            )
            pairs = matches.query[layer, chosen], matches.box[layer, chosen] - start
            assert cost[layer][pairs].sum().item() == pytest.approx(best, rel=1e-6)
        start += len(own)


def test_every_box_is_matched_once_per_layer(outputs, boxes, labels, config: HeadConfig) -> None:
    matches = match(outputs, boxes, labels, config)
    assert matches.sample.tolist() == [0, 0, 1]
    assert matches.query.shape == matches.box.shape == (config.layers, 3)
    for row in matches.box.tolist():
        assert sorted(row[:2]) == [0, 1]
        assert row[2] == 2


def test_the_cost_is_focal_plus_l1_of_eight_codes() -> None:
    config = HeadConfig(classes=2, class_weight=3.0, box_weight=0.5, code_weights=(2.0,) * 10)
    codes = torch.zeros(1, 1, 10)
    box = torch.tensor([[1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 9.0, 9.0]])
    cost = matching_cost(codes, torch.zeros(1, 1, 2), box, torch.tensor([1]), config)
    # probability 0.5: log(2) * (0.25 - 0.75) * 0.25; codes differ by 1 in x and 1 in the cosine
    focal = 0.6931472 * (0.25 - 0.75) * 0.25
    assert cost.item() == pytest.approx(3.0 * focal + 0.5 * 2.0 * 2.0)


def test_the_velocity_does_not_enter_the_cost(outputs, boxes, labels, config) -> None:
    unknown = tuple(own.clone() for own in boxes)
    for own in unknown:
        own[:, 7:] = torch.nan
    ours, theirs = match(outputs, unknown, labels, config), match(outputs, boxes, labels, config)
    assert torch.equal(ours.query, theirs.query)
    assert torch.equal(ours.box, theirs.box)


def test_equal_costs_go_to_the_smaller_class_first(outputs, boxes, labels, config) -> None:
    """With all costs equal, queries are assigned in order of the class."""
    free = replace(config, class_weight=0.0, box_weight=0.0)
    matches = match(outputs, boxes, labels, free)
    first = matches.sample == 0
    by_query = matches.box[0, first][matches.query[0, first].argsort()]
    assert labels[0][by_query].tolist() == [0, 3]


def test_a_confident_query_has_a_finite_cost(boxes, config: HeadConfig) -> None:
    logits = torch.full((1, 2, config.classes), 60.0)
    logits[0, 1] = -60.0
    cost = matching_cost(torch.zeros(1, 2, 10), logits, boxes[0], torch.tensor([0, 1]), config)
    assert cost.isfinite().all()


def test_an_empty_sample_has_no_pairs(outputs, boxes, labels, no_boxes, no_labels, config) -> None:
    matches = match(outputs, [no_boxes[0], boxes[1]], [no_labels[0], labels[1]], config)
    assert matches.sample.tolist() == [1]
    assert matches.box.tolist() == [[0], [0]]


def test_an_empty_batch_has_no_pairs(outputs, no_boxes: Pair, no_labels: Pair, config) -> None:
    matches = match(outputs, no_boxes, no_labels, config)
    assert matches.query.shape == (config.layers, 0)
    assert matches.query.dtype == matches.box.dtype == matches.sample.dtype == torch.int64


def test_more_boxes_than_queries_leave_boxes_unmatched(outputs, config: HeadConfig) -> None:
    crowd = [torch.rand(7, 9) + 0.5, torch.rand(1, 9) + 0.5]
    labels = [torch.zeros(7, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)]
    matches = match(outputs, crowd, labels, config)
    assert matches.sample.tolist() == [0] * config.queries + [1]
    assert matches.box[:, -1].tolist() == [7, 7]


def test_a_prediction_of_nan_raises_an_error_that_says_where(
    outputs, boxes, labels, config
) -> None:
    broken = outputs.class_logits.detach().clone()
    broken[1, 0, 2] = torch.nan
    bad: HeadOutputs = replace(outputs, class_logits=broken)
    with pytest.raises(FloatingPointError, match=r"layer 1, sample 0.*2 of 10.*diverged"):
        match(bad, boxes, labels, config)


def test_a_label_that_is_no_class_is_refused(outputs, boxes: Pair, config: HeadConfig) -> None:
    with pytest.raises((IndexError, RuntimeError), match="out of range"):
        match(outputs, boxes, [torch.tensor([0, -1]), torch.tensor([1])], config)
