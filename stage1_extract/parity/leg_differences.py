"""How the results of two legs differ: outputs, losses, gradients, assignment and boxes."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from shared.model.box_coder import Detections
from shared.model.matcher import Matches
from stage1_extract.parity.parity_legs import Leg
from stage1_extract.parity.parity_tolerances import (
    ASSIGNMENT,
    BOX,
    GRADIENT,
    LOSS,
    OUTPUT,
    SCORE,
    SLOPES,
    UNPAIRED,
    Difference,
)

SAME_SLOPE = 0.05  # of the largest slope of a branch; a flipped sign changes it by up to 2
YAW = 6  # its place in a box


def leg_differences(live: Leg, leg: Leg) -> list[Difference]:
    """Compare what another leg computed with what the live leg computed.

    No maximum here or below loses a NaN.
    """
    return [
        *(
            Difference(
                quantity=f"output {name}", measure=OUTPUT, value=_share(values, leg.outputs[name])
            )
            for name, values in live.outputs.items()
        ),
        *(
            Difference(quantity=f"loss {name}", measure=LOSS, value=_share(loss, leg.losses[name]))
            for name, loss in live.losses.items()
        ),
        *(
            Difference(
                quantity=f"gradient {module}", measure=GRADIENT, value=_relative(names, live, leg)
            )
            for module, names in _by_module(live.gradients).items()
        ),
        Difference(quantity="assignment", measure=ASSIGNMENT, value=_regret(live, leg)),
        Difference(
            quantity="loss slopes at the outputs", measure=SLOPES, value=_flipped(live, leg)
        ),
        *_box_differences(live.detections, leg.detections),
    ]


def _regret(live: Leg, leg: Leg) -> float:
    """Return how much more a leg's own assignment costs than the live one, at the live costs."""
    best, chosen = _chosen_costs(live, live.own_matches), _chosen_costs(live, leg.own_matches)
    return float((chosen.sum() - best.sum()) / best.abs().sum().clamp(min=1.0))


def _chosen_costs(leg: Leg, matches: Matches) -> Tensor:
    """Return the (L, M) costs of an assignment's pairs, as a leg prices them."""
    layer = torch.arange(len(leg.costs)).unsqueeze(1)
    return leg.costs[layer, matches.box, matches.query]


def _flipped(live: Leg, leg: Leg) -> float:
    """Return the share of the losses' slopes at the outputs that are not the same."""
    differ = total = 0
    for ours, theirs in zip(live.own_slopes, leg.own_slopes, strict=True):
        if not (ours.isfinite().all() and theirs.isfinite().all()):
            return math.nan
        differ += int(((ours - theirs).abs() > SAME_SLOPE * ours.abs().max()).sum())
        total += ours.numel()
    return differ / total


def _by_module(gradients: dict[str, Tensor]) -> dict[str, list[str]]:
    """Group parameter names by module, e.g. "pts_bbox_head.transformer"."""
    modules: dict[str, list[str]] = {}
    for name in gradients:
        modules.setdefault(".".join(name.split(".")[:2]), []).append(name)
    return modules


def _relative(names: Sequence[str], live: Leg, leg: Leg) -> float:
    """Return the norm of the difference of some parameters' gradients over their norm.

    All tensors of a module together: a tensor whose own gradient nearly cancels out says nothing.
    """
    gap = torch.stack([(live.gradients[n] - leg.gradients[n]).norm() for n in names]).norm()
    size = torch.stack([live.gradients[n].norm() for n in names]).norm()
    return float(gap / size.clamp(min=torch.finfo(torch.float32).tiny))


def _share(live: Tensor, values: Tensor) -> float:
    """Return the largest difference, relative to the largest magnitude."""
    largest = live.abs().max().clamp(min=torch.finfo(torch.float32).tiny)
    return float((live - values).abs().max() / largest)


def _box_differences(live: Sequence[Detections], leg: Sequence[Detections]) -> Iterator[Difference]:
    """Compare boxes and scores, paired by query and class.

    A box in only one list was cut off from the other by the limit on their number or by the range.
    It counts by how far its score exceeds the other list's lowest, and as unpaired.
    """
    boxes, scores, unpaired = [0.0], [0.0], [0.0]
    for ours, theirs in zip(live, leg, strict=True):
        mine, yours = _keyed(ours), _keyed(theirs)
        shared = [(mine[pair], yours[pair]) for pair in mine.keys() & yours.keys()]
        boxes += [_box_gap(ours.boxes_lidar[a], theirs.boxes_lidar[b]) for a, b in shared]
        scores += [float((ours.scores[a] - theirs.scores[b]).abs()) for a, b in shared]
        scores += _excess(ours.scores, [mine[p] for p in mine.keys() - yours.keys()], theirs.scores)
        scores += _excess(
            theirs.scores, [yours[p] for p in yours.keys() - mine.keys()], ours.scores
        )
        most = max(len(mine), len(yours))
        unpaired.append(1 - len(shared) / most if most else 0.0)
    for name, measure, values in (
        ("decoded boxes", BOX, boxes),
        ("decoded scores", SCORE, scores),
        ("decoded boxes without a partner", UNPAIRED, unpaired),
    ):
        yield Difference(quantity=name, measure=measure, value=float(np.max(values)))


def _keyed(boxes: Detections) -> dict[tuple[int, int], int]:
    """Return the place of every box by its query and class."""
    pairs = zip(boxes.queries.tolist(), boxes.labels.tolist(), strict=True)
    return {pair: place for place, pair in enumerate(pairs)}


def _box_gap(live: Tensor, box: Tensor) -> float:
    """Return the largest difference of two boxes' numbers; that of the yaws at most half a turn."""
    gap = (live - box).abs()
    turn = gap[YAW] % (2 * math.pi)
    gap[YAW] = torch.minimum(turn, 2 * math.pi - turn)
    return float(gap.max())


def _excess(scores: Tensor, places: Sequence[int], compared: Tensor) -> list[float]:
    """Return how far the scores at these places are above the lowest of the other list."""
    lowest = compared.min() if len(compared) else scores.new_zeros(())
    return (scores[list(places)] - lowest).tolist()
