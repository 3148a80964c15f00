"""The comparison behind `check-parity`: two feature sources, one detector, the same answer.

Both legs share what is discrete, because a rounding error must not look like another result: the
denoising noise, and the assignment of boxes to queries, which the live leg makes. How often the
cached leg would have assigned otherwise is a row of its own.

B samples, Q queries.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.batch import Batch, collate
from shared.checkpoints import load_parts, read_state
from shared.config import Preset
from shared.features import FeatureSource, FrameFeatures
from shared.model.box_coder import Detections, decode_boxes
from shared.model.denoising import make_denoising_queries
from shared.model.detector import CmtDetector, build_detector
from shared.model.losses import detection_losses, total_loss
from shared.model.matcher import Matches, match
from shared.model.outputs import HeadOutputs
from shared.targets import with_trainable_annotations

BATCH_SIZES = (1, 2)
SEED = 0
TRAINABLE_PARTS = ("img_neck", "pts_neck", "pts_bbox_head")

# Storage rounds to the nearest float16: half a step. The other half allows for a live value that
# another batch size or thread count moved; it is the only room the features get.
FEATURE_STEPS = 1.0
FLOAT16 = np.finfo(np.float16)

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


def check_parity(
    live: FeatureSource,
    cached: FeatureSource,
    *,
    samples: int,
    checkpoint: Path | None = None,
) -> list[ParityRow]:
    """Compare two sources of the same samples at batch size 1 and 2.

    Args:
        live: the backbones.
        cached: the store.
        samples: how many, spread evenly over the store.
        checkpoint: CMT checkpoint for necks and head; without one, seeded random weights.
    """
    preset = cached.preset
    torch.manual_seed(SEED)
    detector = build_detector(preset)
    if checkpoint is not None:
        load_parts(detector, read_state(checkpoint), TRAINABLE_PARTS, path=checkpoint)
    chosen = np.unique(np.linspace(0, len(cached.tokens) - 1, samples).round().astype(int))
    tokens = [cached.tokens[i] for i in chosen]
    rows: list[ParityRow] = []
    for batch_size in BATCH_SIZES:
        for start in range(0, len(tokens), batch_size):
            part = tokens[start : start + batch_size]
            if len(part) == batch_size:
                rows += _compare(detector, live.read(part), cached.read(part), preset)
    return _worst(rows)


def feature_steps(live: NDArray[np.floating[Any]], cached: NDArray[np.floating[Any]]) -> float:
    """Return the largest distance of cached from live values, in float16 steps."""
    exact = live.astype(np.float64)
    _, exponent = np.frexp(np.maximum(np.abs(exact), FLOAT16.tiny))
    step = np.ldexp(1.0, exponent - 1 - FLOAT16.nmant)
    gap: NDArray[np.float64] = np.abs(exact - cached.astype(np.float64)) / step
    return float(gap.max()) if np.isfinite(gap).all() else float("nan")


def _compare(
    detector: CmtDetector,
    live: Sequence[FrameFeatures],
    cached: Sequence[FrameFeatures],
    preset: Preset,
) -> list[ParityRow]:
    """Compare one batch."""
    size = len(live)
    rows = [
        ParityRow(
            quantity=spec.name,
            batch_size=size,
            difference=max(
                feature_steps(a.maps[spec.name], b.maps[spec.name])
                for a, b in zip(live, cached, strict=True)
            ),
            allowed=FEATURE_STEPS,
            unit="float16 steps",
        )
        for spec in preset.maps
    ]
    rows.append(
        ParityRow(
            quantity="geometry and annotations",
            batch_size=size,
            difference=float(sum(not _same_frame(a, b) for a, b in zip(live, cached, strict=True))),
            allowed=0.0,
            unit="frames that differ",
        )
    )
    one = _run(detector, _batch(live, preset), preset, None)
    other = _run(detector, _batch(cached, preset), preset, one.own_matches)
    return rows + _compare_legs(one, other, size)


def _same_frame(live: FrameFeatures, cached: FrameFeatures) -> bool:
    """Whether everything beside the maps is equal, bit for bit."""
    a, b = dataclasses.asdict(live.frame), dataclasses.asdict(cached.frame)
    a |= a.pop("annotations")
    b |= b.pop("annotations")
    return all(
        np.array_equal(a[key], b[key], equal_nan=isinstance(a[key], np.ndarray)) for key in a
    )


def _batch(frames: Sequence[FrameFeatures], preset: Preset) -> Batch:
    return collate([with_trainable_annotations(one, preset.lidar.grid) for one in frames])


def _run(detector: CmtDetector, batch: Batch, preset: Preset, matches: Matches | None) -> Leg:
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


def _compare_legs(live: Leg, cached: Leg, size: int) -> list[ParityRow]:
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


def _worst(rows: list[ParityRow]) -> list[ParityRow]:
    """Keep the worst row of every quantity and batch size, in order of first appearance."""
    worst: dict[tuple[int, str], ParityRow] = {}
    for one in rows:
        key = (one.batch_size, one.quantity)
        if key not in worst or not one.difference <= worst[key].difference:
            worst[key] = one
    return list(worst.values())
