"""Loss terms by hand, and batches that lack something."""

import math
from dataclasses import replace

import pytest
import torch

from shared.config.head_config import HeadConfig
from shared.data.ground_truth import GroundTruth
from shared.model.denoising import make_denoising_queries
from shared.model.losses import BatchCounts, detection_losses, focal_loss, total_loss
from shared.model.matcher import Matches, match
from shared.model.outputs import OUTPUT_OF_BRANCH, HeadOutputs

RANGE_M = (-8.0, -8.0, -5.0, 8.0, 8.0, 3.0)


def test_focal_loss_is_its_formula() -> None:
    logits = torch.tensor([0.0, 0.0, 2.0, -2.0])
    targets = torch.tensor([1.0, 0.0, 1.0, 0.0])
    easy = 1 / (1 + math.exp(2.0))
    expected = [
        0.25 * 0.5**2 * math.log(2),
        0.75 * 0.5**2 * math.log(2),
        0.25 * easy**2 * -math.log(1 - easy),
        0.75 * easy**2 * -math.log(1 - easy),
    ]
    torch.testing.assert_close(
        focal_loss(logits, targets, alpha=0.25, gamma=2.0), torch.tensor(expected)
    )


def test_terms_have_the_official_names(outputs, boxes, labels, config: HeadConfig) -> None:
    losses = detection_losses(outputs, GroundTruth.of(boxes, labels), config)
    assert set(losses) == {"loss_cls", "d0.loss_cls", "loss_bbox", "d0.loss_bbox"}
    assert total_loss(losses).item() == pytest.approx(sum(term.item() for term in losses.values()))


def test_loss_cls_divides_by_matched_and_a_tenth_of_the_others(outputs, boxes, labels, config):
    matches = match(outputs, GroundTruth.of(boxes, labels), config)
    targets = torch.zeros_like(outputs.class_logits[1])
    every = torch.cat(labels)
    for sample, query, box in zip(matches.sample, matches.query[1], matches.box[1], strict=True):
        targets[sample, query, every[box]] = 1.0
    focal = focal_loss(outputs.class_logits[1], targets, alpha=0.25, gamma=2.0).sum()
    losses = detection_losses(outputs, GroundTruth.of(boxes, labels), config)
    torch.testing.assert_close(losses["loss_cls"], 2.0 * focal / (3 + 0.1 * 7))


def test_a_batch_is_counted_by_what_can_be_matched_and_copied(config: HeadConfig) -> None:
    """Five queries: a sample of seven boxes matches five of them, and nothing can be noised."""
    crowded = replace(config, queries=5, denoising=replace(config.denoising, groups=3))
    counts = BatchCounts.of((2, 7, 0), crowded)
    assert (counts.samples, counts.matched, counts.copies) == (3, 2 + 5, 0)
    # Two copies of at most two boxes fit among five queries.
    counts = BatchCounts.of((2, 1, 0), crowded)
    assert (counts.samples, counts.matched, counts.copies) == (3, 2 + 1, 2 * (2 + 1))
    assert BatchCounts.of((0, 0), crowded).copies == 0


def test_boxes_beyond_the_queries_do_not_count_in_the_losses(outputs, config) -> None:
    """The counts made of the boxes of the batch give the losses of the pairs that exist."""
    boxes = [torch.rand(9, 9, generator=torch.Generator().manual_seed(i)) + 0.5 for i in range(2)]
    truth = GroundTruth.of(boxes, [torch.zeros(9, dtype=torch.int64)] * 2)
    counted = BatchCounts.of(truth.box_counts, config)
    assert counted.matched == 2 * config.queries < sum(truth.box_counts)
    by_counts = detection_losses(outputs, truth, config, counts=counted)
    by_pairs = detection_losses(outputs, truth, config)
    for name, value in by_pairs.items():
        torch.testing.assert_close(by_counts[name], value)


def test_loss_bbox_is_a_weighted_distance_per_matched_box(boxes, labels, config) -> None:
    """All codes are zero, the only box differs by 1 in x (weight 2) and in the cosine (1)."""
    outputs = HeadOutputs(
        center_xy_m=torch.zeros(1, 1, 2, 2),
        log_length=torch.zeros(1, 1, 2, 1),
        log_width_z_log_height=torch.zeros(1, 1, 2, 3),
        yaw_sin_cos=torch.zeros(1, 1, 2, 2),
        velocity_mps=torch.zeros(1, 1, 2, 2),
        class_logits=torch.zeros(1, 1, 2, config.classes),
    )
    box = torch.tensor([[1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0]])
    losses = detection_losses(outputs, GroundTruth.of([box], [torch.tensor([0])]), config)
    assert losses["loss_bbox"].item() == pytest.approx(0.25 * (2.0 + 1.0))


def test_a_box_of_unknown_velocity_counts_but_is_not_regressed(outputs, boxes, labels, config):
    unknown = boxes[0].clone()
    unknown[1, 7:] = torch.nan
    partly = [unknown, boxes[1]]
    matches = match(outputs, GroundTruth.of(boxes, labels), config)
    losses = detection_losses(outputs, GroundTruth.of(partly, labels), config, matches=matches)
    whole = detection_losses(outputs, GroundTruth.of(boxes, labels), config, matches=matches)
    known = matches.box != 1  # (L, M)
    rest = Matches(
        sample=matches.sample[known[1]],
        query=matches.query[1:, known[1]],
        box=matches.box[1:, known[1]],
    )
    last = HeadOutputs(
        **{name: getattr(outputs, name)[1:] for name in OUTPUT_OF_BRANCH.values()},
    )
    two = detection_losses(last, GroundTruth.of(boxes, labels), config, matches=rest)
    torch.testing.assert_close(losses["loss_bbox"] * 3, two["loss_bbox"] * 2)
    assert torch.equal(losses["loss_cls"], whole["loss_cls"])

    total_loss(losses).backward()
    assert all(
        outputs_grad(outputs, name).isfinite().all() for name in ("velocity_mps", "center_xy_m")
    )


def outputs_grad(outputs: HeadOutputs, name: str) -> torch.Tensor:
    gradient = getattr(outputs, name).grad
    assert gradient is not None
    return gradient


def test_a_batch_without_ground_truth_trains(outputs, no_boxes, no_labels, config) -> None:
    losses = detection_losses(outputs, GroundTruth.of(no_boxes, no_labels), config)
    total_loss(losses).backward()
    assert losses["loss_bbox"].item() == 0.0
    assert losses["loss_cls"].item() > 0.0
    assert outputs_grad(outputs, "class_logits").abs().sum() > 0
    assert torch.equal(outputs_grad(outputs, "center_xy_m"), torch.zeros_like(outputs.center_xy_m))


def test_matches_passed_in_are_used(outputs, boxes, labels, config: HeadConfig) -> None:
    matches = match(outputs, GroundTruth.of(boxes, labels), config)
    shifted = replace(matches, query=(matches.query + 1) % config.queries)
    ours = detection_losses(outputs, GroundTruth.of(boxes, labels), config, matches=matches)
    assert torch.equal(
        ours["loss_bbox"],
        detection_losses(outputs, GroundTruth.of(boxes, labels), config)["loss_bbox"],
    )
    theirs = detection_losses(outputs, GroundTruth.of(boxes, labels), config, matches=shifted)
    assert theirs["loss_bbox"] > ours["loss_bbox"]


def test_empty_denoising_slots_do_not_count(outputs, boxes, labels, config) -> None:
    queries = make_denoising_queries(boxes, labels, config, RANGE_M, noise=torch.zeros(6, 3))
    assert queries is not None
    # The fixture's first four queries act as denoising slots; the second sample fills 0 and 2.
    noised = replace(outputs, denoising=outputs)
    losses = detection_losses(noised, GroundTruth.of(boxes, labels), config, denoising=queries)
    assert {"dn_loss_cls", "d0.dn_loss_cls", "dn_loss_bbox", "d0.dn_loss_bbox"} < set(losses)
    dn = losses["dn_loss_cls"] + losses["dn_loss_bbox"]
    (gradient,) = torch.autograd.grad(dn, outputs.class_logits)
    counted = gradient[1].abs().sum(dim=-1) > 0
    assert counted.tolist() == [[True] * 4 + [False], [True, False, True, False, False]]


def test_denoising_averages_over_all_copies(outputs, boxes, labels, config: HeadConfig) -> None:
    queries = make_denoising_queries(boxes, labels, config, RANGE_M, noise=torch.zeros(6, 3))
    assert queries is not None
    losses = detection_losses(
        replace(outputs, denoising=outputs),
        GroundTruth.of(boxes, labels),
        config,
        denoising=queries,
    )
    logits = outputs.class_logits[1, queries.sample, queries.slot]
    targets = torch.nn.functional.one_hot(queries.labels, config.classes).float()
    focal = focal_loss(logits, targets, alpha=0.25, gamma=2.0).sum()
    expected = 2.0 * focal / (6 * 3.14159 / 6 * 0.75**3)
    torch.testing.assert_close(losses["dn_loss_cls"], expected)


def test_denoising_outputs_need_their_queries(outputs, boxes, labels, config) -> None:
    with pytest.raises(ValueError, match="pass the denoising queries"):
        detection_losses(replace(outputs, denoising=outputs), GroundTruth.of(boxes, labels), config)


def test_losses_are_float32_under_autocast(outputs, boxes, labels, config: HeadConfig) -> None:
    expected = detection_losses(outputs, GroundTruth.of(boxes, labels), config)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = detection_losses(outputs, GroundTruth.of(boxes, labels), config)
    for name, value in expected.items():
        assert ours[name].dtype == torch.float32
        assert torch.equal(ours[name], value)
