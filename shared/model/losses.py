"""What the predictions cost: focal loss for the class, L1 for the box code, in every decoder layer.

L decoder layers, B samples, Q queries, K classes, M matched pairs, N denoising queries.

Source: CMT, cmt_head.py `loss`, `_loss_single_task`, `_dn_loss_single_task`; mmdet, focal_loss.py
and losses/utils.py. Upstream's `nan_to_num` on every loss is left out: NaN must stop the training.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from shared.config.head_config import HeadConfig
from shared.data.ground_truth import GroundTruth
from shared.model.box_coder import encode_boxes
from shared.model.denoising import DenoisingQueries, denoising_groups
from shared.model.matcher import Matches, match
from shared.model.outputs import HeadOutputs
from shared.process.device import device_constant

UNMATCHED_SHARE = 0.1  # weight of a query without a box in the mean of the focal loss
MEAN_EPS = torch.finfo(torch.float32).eps  # mmdet adds it to every divisor
SPHERE_SHARE = 3.14159 / 6  # Upstream: pi in six digits; a ball's share of the cube around it


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchCounts:
    """What the sums over a batch are divided by.

    Args:
        samples: B.
        matched: M.
        copies: N.
    """

    samples: int
    matched: int
    copies: int

    @classmethod
    def of(cls, box_counts: Sequence[int], config: HeadConfig) -> "BatchCounts":
        """Count a batch by the number of boxes in each of its samples."""
        return cls(
            samples=len(box_counts),
            matched=sum(min(config.queries, count) for count in box_counts),
            copies=denoising_groups(max(box_counts), config) * sum(box_counts),
        )


def detection_losses(
    outputs: HeadOutputs,
    truth: GroundTruth,
    config: HeadConfig,
    *,
    denoising: DenoisingQueries | None = None,
    matches: Matches | None = None,
    counts: BatchCounts | None = None,
    skips_overflow: bool = False,
) -> dict[str, Tensor]:
    """Compute every loss term, in float32 also under autocast.

    Args:
        outputs: of the head.
        truth: on the device of the outputs. A box with a NaN velocity counts in the mean but is not
            regressed.
        config: weights.
        denoising: the queries that `outputs.denoising` answers.
        matches: an assignment to use; by default it is computed from `outputs`.
        counts: of the whole batch, if these are a share of its samples: the losses of all shares
            then add up to those of the whole. By default, of these samples.
        skips_overflow: whether a gradient scaler skips a step whose loss is not finite. Then
            matching costs that are not finite give losses of NaN, not an error.

    Returns:
        Scalars under the official names: `loss_cls` and `loss_bbox` of the last decoder layer,
        `d0.loss_cls` and so on of the others, and `dn_loss_cls`, `d0.dn_loss_cls` and so on if
        there were denoising queries.

    Raises:
        ValueError: if only one of `outputs.denoising` and `denoising` is None.
        FloatingPointError: if a matching cost is not finite, unless such steps are skipped.
    """
    if (outputs.denoising is None) != (denoising is None):
        raise ValueError("detection_losses: pass the denoising queries the head was run with")
    with torch.autocast(outputs.class_logits.device.type, enabled=False):
        if matches is None:
            matches = match(outputs, truth, config, skips_overflow=skips_overflow)
        if counts is None:
            counts = BatchCounts(
                samples=len(truth.box_counts),
                matched=matches.query.shape[1],
                copies=0 if denoising is None else len(denoising.slot),
            )
        classes, codes = _matched_losses(outputs, truth, config, matches, counts)
        losses = _named(classes, "loss_cls") | _named(codes, "loss_bbox")
        if outputs.denoising is not None and denoising is not None:
            classes, codes = _denoising_losses(outputs.denoising, denoising, config, counts.copies)
            losses |= _named(classes, "dn_loss_cls") | _named(codes, "dn_loss_bbox")
        if not matches.is_exact:
            losses = {name: value * torch.nan for name, value in losses.items()}
    return losses


def total_loss(losses: dict[str, Tensor]) -> Tensor:
    """Return the plain sum: the terms are already weighted."""
    return torch.stack(list(losses.values())).sum()


def focal_loss(logits: Tensor, targets: Tensor, *, alpha: float, gamma: float) -> Tensor:
    """Return the elementwise sigmoid focal loss.

    Args:
        logits: any shape.
        targets: 0 or 1, same shape.
        alpha: weight of the ones; the zeros have 1 - alpha.
        gamma: how strongly easy elements are discounted.
    """
    probability = logits.sigmoid()
    surprise = torch.where(targets > 0, 1 - probability, probability)
    weight = torch.where(targets > 0, alpha, 1 - alpha) * surprise**gamma
    return weight * functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")


def _matched_losses(
    outputs: HeadOutputs,
    truth: GroundTruth,
    config: HeadConfig,
    matches: Matches,
    counts: BatchCounts,
) -> tuple[Tensor, Tensor]:
    """Return (L,) class and box losses of the ordinary queries."""
    logits, codes = outputs.class_logits.float(), outputs.codes.float()
    layers, samples, queries, _ = logits.shape
    layer = torch.arange(layers, device=logits.device).unsqueeze(1)  # (L, 1)
    place = (layer * samples + matches.sample) * queries + matches.query  # (L, M), among L * B * Q
    targets = torch.zeros_like(logits)
    hits = layer, matches.sample, matches.query, truth.labels[matches.box]
    targets.index_put_(hits, targets.new_ones(()))
    focal = focal_loss(logits, targets, alpha=config.focal_alpha, gamma=config.focal_gamma)
    # Upstream: counted on each device by itself; `counts` may be those of all devices.
    unmatched = counts.samples * queries - counts.matched
    counted = max(counts.matched + UNMATCHED_SHARE * unmatched, 1.0)
    # index_select, not indexing: the gradient of that one sorts its indices first.
    matched = codes.flatten(0, 2).index_select(0, place.flatten())  # (L * M, 10)
    gap = _code_gap(
        matched.view(layers, -1, codes.shape[-1]), truth.boxes_lidar[matches.box], config
    )
    return (
        config.class_weight * focal.sum(dim=(1, 2, 3)) / (counted + MEAN_EPS),
        config.box_weight * gap / (counts.matched + MEAN_EPS),
    )


def _denoising_losses(
    outputs: HeadOutputs, queries: DenoisingQueries, config: HeadConfig, copies: int
) -> tuple[Tensor, Tensor]:
    """Return (L,) class and box losses of the denoising queries; empty slots do not count.

    Upstream: the number of copies is averaged over devices for the box loss only; here every term
    counts the same samples.
    """
    place = queries.sample * outputs.codes.shape[2] + queries.slot  # (N,)
    logits = outputs.class_logits.float().flatten(1, 2).index_select(1, place)  # (L, N, K)
    codes = outputs.codes.float().flatten(1, 2).index_select(1, place)  # (L, N, 10)
    # Not one_hot, which reads its labels on the host: K, the background, is in no column.
    classes = torch.arange(config.classes, device=logits.device)
    targets = (queries.labels.unsqueeze(1) == classes).to(logits)  # (N, K)
    focal = focal_loss(
        logits, targets.expand_as(logits), alpha=config.focal_alpha, gamma=config.focal_gamma
    )
    near = max(copies * SPHERE_SHARE * config.denoising.split**3, 1.0)
    # Upstream: a copy that counts as background is still regressed to its box.
    gap = _code_gap(codes, queries.boxes_lidar.expand(len(codes), -1, -1), config)
    weight = config.denoising.weight
    return (
        weight * config.class_weight * focal.sum(dim=(1, 2)) / (near + MEAN_EPS),
        weight * config.box_weight * gap / (max(copies, 1) + MEAN_EPS),
    )


def _code_gap(codes: Tensor, boxes: Tensor, config: HeadConfig) -> Tensor:
    """Return the (L,) weighted L1 distance of (L, M, 10) codes from (L, M, 9) boxes.

    A box whose code is not finite (velocity unknown) is left out, with all ten of its codes.
    """
    targets = encode_boxes(boxes.float())
    known = targets.isfinite().all(dim=-1, keepdim=True)  # (L, M, 1)
    # Multiplying by a mask would not do: 0 times NaN is NaN, also in the gradient.
    targets = torch.where(known, targets, codes.detach())
    weights = device_constant(config.code_weights, codes.device)
    return ((codes - targets).abs() * weights).sum(dim=(1, 2))


def _named(per_layer: Tensor, name: str) -> dict[str, Tensor]:
    """Name an (L,) loss as upstream does: no prefix for the last layer, a number for the others."""
    *earlier, last = per_layer.unbind()
    return {name: last} | {f"d{layer}.{name}": value for layer, value in enumerate(earlier)}
