"""One source's way through the detector, and how two such ways differ.

Both legs share what is discrete, because a rounding error must not look like another result: the
denoising noise; the assignment of boxes to queries; and the gradient of the losses at the outputs,
since that of an L1 loss is a sign, and one sign in few boxes is percents of the whole gradient. The
live leg makes all three. How often the cached leg would have decided otherwise has its own rows.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shared.config.preset import Preset
from shared.data.batch import Batch
from shared.model.box_coder import Detections, decode_boxes
from shared.model.denoising import make_denoising_queries
from shared.model.detector import CmtDetector
from shared.model.losses import detection_losses, total_loss
from shared.model.matcher import Matches, match, matching_cost
from shared.model.outputs import OUTPUT_OF_BRANCH, HeadOutputs
from stage1_extract.parity.parity_tolerances import Tolerances

SEED = 0

SAME_SLOPE = 0.05  # of the largest slope of a branch; a sign that flips moves it by up to 2


@dataclass(frozen=True, kw_only=True, slots=True)
class ParityRow:
    """One comparison.

    Args:
        quantity: what was compared.
        batch_size: samples per batch.
        difference: the largest difference found.
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
    """Everything one source leads to.

    Args:
        outputs, losses: of a forward with denoising queries, detached.
        costs: per sample, (L, Q, n) of giving each of its boxes to each query.
        own_matches: the assignment this leg would make itself.
        own_slopes: the gradient of the total loss at every output, this leg's own.
        gradients: of the parameters, given the slopes that both legs share.
        found: boxes of an evaluation-mode forward.
    """

    outputs: dict[str, Tensor]
    losses: dict[str, Tensor]
    costs: list[Tensor]
    own_matches: Matches
    own_slopes: list[Tensor]
    gradients: dict[str, Tensor]
    found: list[Detections]


def run_leg(detector: CmtDetector, batch: Batch, preset: Preset, live: Leg | None = None) -> Leg:
    """Forward and backward as training does, with dropout off and BatchNorm on its statistics.

    Args:
        detector: the same for both legs.
        batch: of one source.
        preset: the detector's.
        live: the live leg, when this is the cached one.
    """
    detector.eval()
    with torch.no_grad():
        found = decode_boxes(detector(batch), preset.head)
    queries = make_denoising_queries(
        batch.boxes_lidar,
        batch.labels,
        preset.head,
        preset.grid.point_range_m,
        generator=torch.Generator().manual_seed(SEED),
    )
    outputs: HeadOutputs = detector(batch, queries)
    own = match(outputs, batch.boxes_lidar, batch.labels, preset.head)
    losses = detection_losses(
        outputs,
        batch.boxes_lidar,
        batch.labels,
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
        costs=[
            matching_cost(
                outputs.codes[:, sample],
                outputs.class_logits[:, sample],
                boxes,
                labels,
                preset.head,
            ).detach()
            for sample, (boxes, labels) in enumerate(
                zip(batch.boxes_lidar, batch.labels, strict=True)
            )
        ],
        own_matches=own,
        own_slopes=slopes,
        found=found,
    )


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
        row(f"output {name}", _share(one, cached.outputs[name]), allowed.output, "of largest")
        for name, one in live.outputs.items()
    ]
    rows += [
        row(f"loss {name}", _share(one, cached.losses[name]), allowed.loss, "of value")
        for name, one in live.losses.items()
    ]
    rows += [
        row(f"gradient {part}", _relative(names, live, cached), allowed.gradient, "of norm")
        for part, names in _parts(live.gradients).items()
    ]
    best, chosen = _chosen_costs(live, live.own_matches), _chosen_costs(live, cached.own_matches)
    regret = float((chosen.sum() - best.sum()) / best.abs().sum().clamp(min=1.0))
    rows.append(row("assignment", regret, allowed.assignment, "of cost"))
    flips = [
        (one - other).abs() > SAME_SLOPE * one.abs().max()
        for one, other in zip(live.own_slopes, cached.own_slopes, strict=True)
    ]
    flipped = sum(int(one.sum()) for one in flips) / sum(one.numel() for one in flips)
    rows.append(row("loss slopes at the outputs", flipped, allowed.slopes, "share that differs"))
    boxes, scores = zip(
        *(_boxes_gap(a, b) for a, b in zip(live.found, cached.found, strict=True)), strict=True
    )
    rows.append(row("decoded boxes", _worst_of(boxes), allowed.box, "m, rad or m/s"))
    rows.append(row("decoded scores", _worst_of(scores), allowed.score, "score"))
    return rows


def _chosen_costs(leg: Leg, matches: Matches) -> Tensor:
    """Return the (L, M) costs of an assignment's pairs, at a leg's costs."""
    table = torch.cat(leg.costs, dim=-1)  # (L, Q, n): a box's column knows its own sample only
    layer = torch.arange(len(table)).unsqueeze(1)
    return table[layer, matches.query, matches.box]


def _parts(gradients: dict[str, Tensor]) -> dict[str, list[str]]:
    """Group parameter names by module, e.g. "pts_bbox_head.transformer"."""
    parts: dict[str, list[str]] = {}
    for name in gradients:
        parts.setdefault(".".join(name.split(".")[:2]), []).append(name)
    return parts


def _relative(names: Sequence[str], live: Leg, cached: Leg) -> float:
    """Return the norm of the difference of some parameters' gradients over their norm.

    All tensors of a module together: a tensor whose own gradient all but cancels says nothing.
    """
    gap = torch.stack([(live.gradients[n] - cached.gradients[n]).norm() for n in names]).norm()
    size = torch.stack([live.gradients[n].norm() for n in names]).norm()
    return float(gap / size.clamp(min=torch.finfo(torch.float32).tiny))


def _share(live: Tensor, cached: Tensor) -> float:
    """Return the largest difference over the largest magnitude."""
    largest = max(float(live.abs().max()), torch.finfo(torch.float32).tiny)
    return float((live - cached).abs().max()) / largest


def _boxes_gap(live: Detections, cached: Detections) -> tuple[float, float]:
    """Return the largest difference of box numbers and of scores between two lists of detections.

    Boxes are paired by query and class. One that only one list holds was cut off by the limit on
    their number, so it counts with the distance of its score from the other list's lowest.
    """

    def keyed(found: Detections) -> dict[tuple[int, int], tuple[Tensor, float]]:
        pairs = zip(found.queries.tolist(), found.labels.tolist(), strict=True)
        return {
            pair: (found.boxes_lidar[i], float(found.scores[i])) for i, pair in enumerate(pairs)
        }

    one, other = keyed(live), keyed(cached)
    box_gap, score_gap = 0.0, 0.0
    for pair in one.keys() & other.keys():
        difference = (one[pair][0] - other[pair][0]).abs()
        turn = float(difference[6]) % (2 * np.pi)
        difference[6] = min(turn, 2 * np.pi - turn)
        box_gap = max(box_gap, float(difference.max()))
        score_gap = max(score_gap, abs(one[pair][1] - other[pair][1]))
    for mine, theirs in ((one, other), (other, one)):
        lowest = min((score for _, score in theirs.values()), default=0.0)
        for pair in mine.keys() - theirs.keys():
            score_gap = max(score_gap, mine[pair][1] - lowest)
    return box_gap, score_gap


def _worst_of(values: Sequence[float]) -> float:
    """Return the largest value, or NaN if there is one."""
    return float(np.max(values)) if len(values) else 0.0
