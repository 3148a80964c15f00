"""One source's way through the detector, and how two such ways differ.

Both legs share what is discrete, because a rounding error must not look like another result: the
denoising noise, and the assignment of boxes to queries, which the live leg makes. How often the
cached leg would have assigned otherwise is a row of its own.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shared.batch import Batch
from shared.config import Preset
from shared.model.box_coder import Detections, decode_boxes
from shared.model.denoising import make_denoising_queries
from shared.model.detector import CmtDetector
from shared.model.losses import detection_losses, total_loss
from shared.model.matcher import Matches, match
from shared.model.outputs import HeadOutputs

SEED = 0

# What half a float16 step (2^-11 relative) on every feature does downstream. Relative to the
# largest magnitude of the quantity; measured values are ten times smaller (docs/parity.md).
OUTPUT_SHARE = 1e-2
LOSS_SHARE = 5e-3
GRADIENT_SHARE = 2e-2
BOX_M = 0.05
SCORE = 5e-3
ASSIGNMENT_SHARE = 0.05


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
        outputs, losses, gradients: of one training-mode forward and backward, detached.
        own_matches: the assignment this leg would have made itself.
        found: boxes of an evaluation-mode forward.
    """

    outputs: dict[str, Tensor]
    losses: dict[str, Tensor]
    gradients: dict[str, Tensor]
    own_matches: Matches
    found: list[Detections]


def run_leg(detector: CmtDetector, batch: Batch, preset: Preset, matches: Matches | None) -> Leg:
    """Forward and backward as training does, with dropout off and BatchNorm on its statistics."""
    detector.eval()
    with torch.no_grad():
        found = decode_boxes(detector(batch), preset.head)
    queries = make_denoising_queries(
        batch.boxes_lidar,
        batch.labels,
        preset.head,
        preset.lidar.grid.point_range_m,
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
        matches=own if matches is None else matches,
    )
    detector.zero_grad()
    torch.autograd.backward(total_loss(losses))
    return Leg(
        outputs={
            name: getattr(outputs, name).detach()
            for name in ("center", "height", "dim", "rot", "vel", "cls_logits")
        },
        losses={name: value.detach() for name, value in losses.items()},
        gradients={
            name: parameter.grad.clone()
            for name, parameter in detector.named_parameters()
            if parameter.grad is not None
        },
        own_matches=own,
        found=found,
    )


def compare_legs(live: Leg, cached: Leg, size: int) -> list[ParityRow]:
    """Compare what two legs computed."""

    def row(quantity: str, difference: float, allowed: float, unit: str) -> ParityRow:
        return ParityRow(
            quantity=quantity,
            batch_size=size,
            difference=difference,
            allowed=allowed,
            unit=unit,
        )

    rows = [
        row(f"output {name}", _share(one, cached.outputs[name]), OUTPUT_SHARE, "of largest")
        for name, one in live.outputs.items()
    ]
    rows += [
        row(f"loss {name}", _share(one, cached.losses[name]), LOSS_SHARE, "of value")
        for name, one in live.losses.items()
    ]
    by_part: dict[str, list[float]] = {}
    largest = max(float(one.norm()) for one in live.gradients.values())
    for name, one in live.gradients.items():
        part = ".".join(name.split(".")[:2])
        # A gradient that is zero but for rounding is measured against the largest one.
        scale = max(float(one.norm()), 1e-4 * largest)
        gap = float((one - cached.gradients[name]).norm()) / scale
        by_part.setdefault(part, []).append(gap)
    rows += [
        row(f"gradient {part}", _worst_of(gaps), GRADIENT_SHARE, "of norm")
        for part, gaps in by_part.items()
    ]
    other = (live.own_matches.query != cached.own_matches.query) | (
        live.own_matches.box != cached.own_matches.box
    )
    share = float(other.float().mean()) if other.numel() else 0.0
    rows.append(row("assignments", share, ASSIGNMENT_SHARE, "share that differs"))
    boxes, scores = zip(
        *(_boxes_gap(a, b) for a, b in zip(live.found, cached.found, strict=True)), strict=True
    )
    rows.append(row("decoded boxes", _worst_of(boxes), BOX_M, "m, rad or m/s"))
    rows.append(row("decoded scores", _worst_of(scores), SCORE, "score"))
    return rows


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
