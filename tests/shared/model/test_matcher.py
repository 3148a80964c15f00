"""The assignment against brute force, and its edge cases."""

from dataclasses import replace
from itertools import permutations

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from shared.config.head_config import HeadConfig
from shared.data.ground_truth import GroundTruth
from shared.model.box_coder import encode_boxes
from shared.model.matcher import COST_CODES, LOG_EPS, match, matching_cost
from shared.model.outputs import OUTPUT_OF_BRANCH, HeadOutputs

Pair = tuple[Tensor, Tensor]


def cost_of_sample(
    codes: Tensor, logits: Tensor, boxes: Tensor, labels: Tensor, config: HeadConfig
) -> Tensor:
    """Return the (L, Q, n) cost of a single sample: the readable twin of the batched one."""
    weights = codes.new_tensor(config.code_weights[:COST_CODES])
    wanted = encode_boxes(boxes)[..., :COST_CODES] * weights  # (n, 8)
    predicted = codes[..., :COST_CODES] * weights  # (L, Q, 8)
    distance = torch.cdist(predicted, wanted.expand(len(predicted), -1, -1), p=1.0)
    hit, miss = logits.sigmoid(), (-logits).sigmoid()
    taken = -(hit + LOG_EPS).log() * config.focal_alpha * miss**config.focal_gamma
    left = -(miss + LOG_EPS).log() * (1 - config.focal_alpha) * hit**config.focal_gamma
    classification = (taken - left)[..., labels]
    return config.class_weight * classification + config.box_weight * distance


def random_batch(
    counts: tuple[int, ...], config: HeadConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
    """Return codes, logits, boxes and labels of a batch with these numbers of boxes."""
    shape = config.layers, len(counts), config.queries
    codes = torch.randn(*shape, 10, generator=generator) * 3
    logits = torch.randn(*shape, config.classes, generator=generator) * 2
    boxes = [torch.rand(n, 9, generator=generator) * 4 + 0.5 for n in counts]
    labels = [torch.randint(config.classes, (n,), generator=generator) for n in counts]
    return codes, logits, boxes, labels


@pytest.mark.parametrize("counts", [(3, 0, 11, 1), (0, 0), (40, 37)])
def test_a_batch_is_priced_and_assigned_as_its_samples_one_by_one(
    outputs, config: HeadConfig, counts: tuple[int, ...]
) -> None:
    """Also with more boxes than queries; the assignments are those of the present order exactly."""
    config = replace(config, queries=37)
    codes, logits, boxes, labels = random_batch(counts, config, torch.Generator().manual_seed(0))
    truth = GroundTruth.of(boxes, labels)
    predicted = with_codes(codes, logits)

    matches = match(predicted, truth, config)
    costs = matching_cost(codes, logits, truth, config).split(counts, dim=1)

    start = pairs = 0
    for sample, (own, classes) in enumerate(zip(boxes, labels, strict=True)):
        order = classes.argsort(stable=True)
        twin = cost_of_sample(
            codes[:, sample], logits[:, sample], own[order], classes[order], config
        )
        # Within a vector and in its remainder, torch's logarithm may differ in the last bit.
        torch.testing.assert_close(costs[sample].transpose(1, 2), twin, rtol=1e-6, atol=1e-6)
        end = pairs + min(len(own), config.queries)
        assert matches.sample[pairs:end].tolist() == [sample] * (end - pairs)
        for layer, cost in enumerate(twin):
            queries, columns = linear_sum_assignment(cost.numpy())
            assert matches.query[layer, pairs:end].tolist() == queries.tolist()
            assert matches.box[layer, pairs:end].tolist() == (order[columns] + start).tolist()
        start, pairs = start + len(own), end


def with_codes(codes: Tensor, logits: Tensor) -> HeadOutputs:
    parts = codes.split([2, 1, 3, 2, 2], dim=-1)
    return HeadOutputs(
        **dict(zip(list(OUTPUT_OF_BRANCH.values())[:5], parts, strict=True)), class_logits=logits
    )


def test_costs_that_are_not_finite_give_inexact_pairs_to_a_step_that_will_be_skipped(
    outputs, boxes: Pair, labels: Pair, config: HeadConfig
) -> None:
    broken = outputs.class_logits.detach().clone()
    broken[1, 0] = torch.nan
    broken[0, 1, 2] = torch.inf
    bad = replace(outputs, class_logits=broken, center_xy_m=outputs.center_xy_m * torch.inf)
    truth = GroundTruth.of(boxes, labels)

    matches = match(bad, truth, config, skips_overflow=True)

    assert not matches.is_exact
    assert matches.query.shape == matches.box.shape == (config.layers, 3)
    assert match(outputs, truth, config, skips_overflow=True).is_exact


def test_the_assignment_is_the_cheapest_of_all(outputs, boxes, labels, config: HeadConfig) -> None:
    matches = match(outputs, GroundTruth.of(boxes, labels), config)
    start = 0
    for sample, (own, classes) in enumerate(zip(boxes, labels, strict=True)):
        cost = cost_of_sample(
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
    matches = match(outputs, GroundTruth.of(boxes, labels), config)
    assert matches.sample.tolist() == [0, 0, 1]
    assert matches.query.shape == matches.box.shape == (config.layers, 3)
    for row in matches.box.tolist():
        assert sorted(row[:2]) == [0, 1]
        assert row[2] == 2


def test_the_cost_is_focal_plus_l1_of_eight_codes() -> None:
    config = HeadConfig(classes=2, class_weight=3.0, box_weight=0.5, code_weights=(2.0,) * 10)
    codes = torch.zeros(1, 1, 1, 10)
    box = torch.tensor([[1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 9.0, 9.0]])
    truth = GroundTruth.of([box], [torch.tensor([1])])
    cost = matching_cost(codes, torch.zeros(1, 1, 1, 2), truth, config)
    # probability 0.5: log(2) * (0.25 - 0.75) * 0.25; codes differ by 1 in x and 1 in the cosine
    focal = 0.6931472 * (0.25 - 0.75) * 0.25
    assert cost.item() == pytest.approx(3.0 * focal + 0.5 * 2.0 * 2.0)


def test_the_velocity_does_not_enter_the_cost(outputs, boxes, labels, config) -> None:
    unknown = tuple(own.clone() for own in boxes)
    for own in unknown:
        own[:, 7:] = torch.nan
    ours = match(outputs, GroundTruth.of(unknown, labels), config)
    theirs = match(outputs, GroundTruth.of(boxes, labels), config)
    assert torch.equal(ours.query, theirs.query)
    assert torch.equal(ours.box, theirs.box)


def test_equal_costs_go_to_the_smaller_class_first(outputs, boxes, labels, config) -> None:
    """With all costs equal, queries are assigned in order of the class."""
    free = replace(config, class_weight=0.0, box_weight=0.0)
    matches = match(outputs, GroundTruth.of(boxes, labels), free)
    first = matches.sample == 0
    by_query = matches.box[0, first][matches.query[0, first].argsort()]
    assert labels[0][by_query].tolist() == [0, 3]


def test_a_confident_query_has_a_finite_cost(boxes, config: HeadConfig) -> None:
    logits = torch.full((1, 1, 2, config.classes), 60.0)
    logits[0, 0, 1] = -60.0
    truth = GroundTruth.of([boxes[0]], [torch.tensor([0, 1])])
    cost = matching_cost(torch.zeros(1, 1, 2, 10), logits, truth, config)
    assert cost.isfinite().all()


def test_an_empty_sample_has_no_pairs(outputs, boxes, labels, no_boxes, no_labels, config) -> None:
    truth = GroundTruth.of([no_boxes[0], boxes[1]], [no_labels[0], labels[1]])
    matches = match(outputs, truth, config)
    assert matches.sample.tolist() == [1]
    assert matches.box.tolist() == [[0], [0]]


def test_an_empty_batch_has_no_pairs(outputs, no_boxes: Pair, no_labels: Pair, config) -> None:
    matches = match(outputs, GroundTruth.of(no_boxes, no_labels), config)
    assert matches.query.shape == (config.layers, 0)
    assert matches.query.dtype == matches.box.dtype == matches.sample.dtype == torch.int64


def test_more_boxes_than_queries_leave_boxes_unmatched(outputs, config: HeadConfig) -> None:
    crowd = [torch.rand(7, 9) + 0.5, torch.rand(1, 9) + 0.5]
    labels = [torch.zeros(7, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)]
    matches = match(outputs, GroundTruth.of(crowd, labels), config)
    assert matches.sample.tolist() == [0] * config.queries + [1]
    assert matches.box[:, -1].tolist() == [7, 7]


def test_a_prediction_of_nan_raises_an_error_that_says_where(
    outputs, boxes, labels, config
) -> None:
    broken = outputs.class_logits.detach().clone()
    broken[1, 0, 2] = torch.nan
    bad: HeadOutputs = replace(outputs, class_logits=broken)
    with pytest.raises(FloatingPointError, match=r"layer 1, sample 0.*2 of 10.*diverged"):
        match(bad, GroundTruth.of(boxes, labels), config)


def test_a_label_that_is_no_class_is_refused(outputs, boxes: Pair, config: HeadConfig) -> None:
    with pytest.raises((IndexError, RuntimeError), match="out of bounds"):
        match(outputs, GroundTruth.of(boxes, [torch.tensor([0, -1]), torch.tensor([1])]), config)
