"""One source's pass through the detector (a leg), and how the legs of two sources differ.

Both legs share what is discrete, because a rounding error must not look like a different result:
the denoising noise; the assignment of boxes to queries; and the gradient of the losses at the
outputs, since that of an L1 loss is a sign, and with few boxes a single sign is several percent of
the whole gradient. The live leg decides all three. How often the cached leg would have decided
differently has its own rows.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shared.config.head_config import HeadConfig
from shared.config.preset import Preset
from shared.data.batch import Batch
from shared.data.ground_truth import GroundTruth
from shared.model.box_coder import Detections, decode_boxes
from shared.model.denoising import make_denoising_queries
from shared.model.detector import CmtDetector
from shared.model.losses import detection_losses, total_loss
from shared.model.matcher import Matches, match, matching_cost
from shared.model.outputs import OUTPUT_OF_BRANCH, HeadOutputs
from stage1_extract.parity.parity_tolerances import Tolerances

SEED = 0

SAME_SLOPE = 0.05  # of the largest slope of a branch; a flipped sign changes it by up to 2


@dataclass(frozen=True, kw_only=True, slots=True)
class ParityRow:
    """One comparison.

    Args:
        quantity: what was compared.
        batch_size: samples per batch.
        difference: the largest difference.
        allowed: the tolerance.
        unit: of both numbers.
    """

    quantity: str
    batch_size: int
    difference: float
    allowed: float
    unit: str

    @property
    def passed(self) -> bool:
        """Whether the difference is within tolerance; NaN is not."""
        return self.difference <= self.allowed

    def document(self) -> dict[str, Any]:
        """Return the row as JSON."""
        return {**dataclasses.asdict(self), "passed": self.passed}


@dataclass(frozen=True, kw_only=True, slots=True)
class Leg:
    """Everything that follows from one source.

    Args:
        outputs, losses: of a forward with denoising queries, detached.
        costs: (L, M, Q), of assigning each of the batch's boxes to each query of its sample.
        own_matches: the assignment that this leg would choose itself.
        own_slopes: this leg's own gradient of the total loss at every output.
        gradients: of the parameters, from the slopes that both legs share.
        detections: of a forward in evaluation mode.
    """

    outputs: dict[str, Tensor]
    losses: dict[str, Tensor]
    costs: Tensor
    own_matches: Matches
    own_slopes: list[Tensor]
    gradients: dict[str, Tensor]
    detections: list[Detections]


def run_leg(detector: CmtDetector, batch: Batch, preset: Preset, live: Leg | None = None) -> Leg:
    """Run forward and backward as training does, without dropout and with frozen BatchNorm.

    Args:
        detector: the same for both legs.
        batch: of one source.
        preset: the detector's.
        live: the live leg, when running the cached leg.
    """
    detector.eval()
    with torch.no_grad():
        detections = decode_boxes(detector(batch), preset.head)
    queries = make_denoising_queries(
        batch.boxes_lidar,
        batch.labels,
        preset.head,
        preset.grid.point_range_m,
        generator=torch.Generator().manual_seed(SEED),
        device=detector.device,
    )
    truth = GroundTruth.of(batch.boxes_lidar, batch.labels).to(detector.device)
    outputs: HeadOutputs = detector(batch, queries)
    own = match(outputs, truth, preset.head)
    losses = detection_losses(
        outputs,
        truth,
        preset.head,
        denoising=queries,
        matches=own if live is None else live.own_matches,
    )
    predicted = [*_branches(outputs).values()]
    if outputs.denoising is not None:
        predicted += _branches(outputs.denoising).values()
    slopes = list(torch.autograd.grad(total_loss(losses), predicted, retain_graph=True))
    detector.zero_grad()
    torch.autograd.backward(predicted, slopes if live is None else live.own_slopes)
    return Leg(
        outputs={name: values.detach() for name, values in _branches(outputs).items()},
        losses={name: value.detach() for name, value in losses.items()},
        gradients={
            name: parameter.grad.clone()
            for name, parameter in detector.named_parameters()
            if parameter.grad is not None
        },
        costs=_costs(outputs, truth, preset.head),
        own_matches=own,
        own_slopes=slopes,
        detections=detections,
    )


def _costs(outputs: HeadOutputs, truth: GroundTruth, config: HeadConfig) -> Tensor:
    """Return (L, M, Q) matching costs, the boxes in the order of the batch."""
    by_class = matching_cost(outputs.codes, outputs.class_logits, truth, config).detach()
    return by_class[:, truth.by_class.argsort()]


def _branches(outputs: HeadOutputs) -> dict[str, Tensor]:
    return {name: getattr(outputs, name) for name in OUTPUT_OF_BRANCH.values()}


def compare_legs(live: Leg, cached: Leg, size: int, allowed: Tolerances) -> list[ParityRow]:
    """Compare what two legs computed."""

    def row(quantity: str, difference: float, limit: float, unit: str) -> ParityRow:
        return ParityRow(
            quantity=quantity,
            batch_size=size,
            difference=difference,
            allowed=limit,
            unit=unit,
        )

    rows = [
        row(f"output {name}", _share(values, cached.outputs[name]), allowed.output, "of largest")
        for name, values in live.outputs.items()
    ]
    rows += [
        row(f"loss {name}", _share(loss, cached.losses[name]), allowed.loss, "of value")
        for name, loss in live.losses.items()
    ]
    rows += [
        row(f"gradient {module}", _relative(names, live, cached), allowed.gradient, "of norm")
        for module, names in _by_module(live.gradients).items()
    ]
    best, chosen = _chosen_costs(live, live.own_matches), _chosen_costs(live, cached.own_matches)
    regret = float((chosen.sum() - best.sum()) / best.abs().sum().clamp(min=1.0))
    rows.append(row("assignment", regret, allowed.assignment, "of cost"))
    flips = [
        (slope - cached_slope).abs() > SAME_SLOPE * slope.abs().max()
        for slope, cached_slope in zip(live.own_slopes, cached.own_slopes, strict=True)
    ]
    flipped = sum(int(flip.sum()) for flip in flips) / sum(flip.numel() for flip in flips)
    rows.append(row("loss slopes at the outputs", flipped, allowed.slopes, "share that differs"))
    boxes, scores = zip(
        *(_boxes_gap(a, b) for a, b in zip(live.detections, cached.detections, strict=True)),
        strict=True,
    )
    rows.append(row("decoded boxes", _worst_of(boxes), allowed.box, "m, rad or m/s"))
    rows.append(row("decoded scores", _worst_of(scores), allowed.score, "score"))
    return rows


def _chosen_costs(leg: Leg, matches: Matches) -> Tensor:
    """Return the (L, M) costs of an assignment's pairs, as a leg prices them."""
    layer = torch.arange(len(leg.costs)).unsqueeze(1)
    return leg.costs[layer, matches.box, matches.query]


def _by_module(gradients: dict[str, Tensor]) -> dict[str, list[str]]:
    """Group parameter names by module, e.g. "pts_bbox_head.transformer"."""
    modules: dict[str, list[str]] = {}
    for name in gradients:
        modules.setdefault(".".join(name.split(".")[:2]), []).append(name)
    return modules


def _relative(names: Sequence[str], live: Leg, cached: Leg) -> float:
    """Return the norm of the difference of some parameters' gradients over their norm.

    All tensors of a module together: a tensor whose own gradient nearly cancels out says nothing.
    """
    gap = torch.stack([(live.gradients[n] - cached.gradients[n]).norm() for n in names]).norm()
    size = torch.stack([live.gradients[n].norm() for n in names]).norm()
    return float(gap / size.clamp(min=torch.finfo(torch.float32).tiny))


def _share(live: Tensor, cached: Tensor) -> float:
    """Return the largest difference, relative to the largest magnitude."""
    largest = max(float(live.abs().max()), torch.finfo(torch.float32).tiny)
    return float((live - cached).abs().max()) / largest


def _boxes_gap(live: Detections, cached: Detections) -> tuple[float, float]:
    """Return the largest difference of box numbers and of scores between two lists of detections.

    Boxes are paired by query and class. A box in only one list was cut off from the other by the
    limit on their number, so it counts by how far its score exceeds the other list's lowest.
    """

    def keyed(boxes: Detections) -> dict[tuple[int, int], tuple[Tensor, float]]:
        pairs = zip(boxes.queries.tolist(), boxes.labels.tolist(), strict=True)
        return {
            pair: (boxes.boxes_lidar[i], float(boxes.scores[i])) for i, pair in enumerate(pairs)
        }

    ours, theirs = keyed(live), keyed(cached)
    box_gap, score_gap = 0.0, 0.0
    for pair in ours.keys() & theirs.keys():
        difference = (ours[pair][0] - theirs[pair][0]).abs()
        turn = float(difference[6]) % (2 * np.pi)
        difference[6] = min(turn, 2 * np.pi - turn)
        box_gap = max(box_gap, float(difference.max()))
        score_gap = max(score_gap, abs(ours[pair][1] - theirs[pair][1]))
    for complete, cut in ((ours, theirs), (theirs, ours)):
        lowest = min((score for _, score in cut.values()), default=0.0)
        for pair in complete.keys() - cut.keys():
            score_gap = max(score_gap, complete[pair][1] - lowest)
    return box_gap, score_gap


def _worst_of(values: Sequence[float]) -> float:
    """Return the largest value, or NaN if there is one."""
    return float(np.max(values)) if len(values) else 0.0
