"""Which detections match which true boxes, sample by sample, as nuscenes-devkit matches them.

Its `accumulate` goes through all detections of a class by falling score, but a detection can only
take a true box of its own sample. So matches do not depend on which other samples there are, are
made once, and serve every resampled set of samples.

S samples, P detections of a class, T matching distances.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Errors = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassMatches:
    """Detections of a class in the order in which the devkit goes through them.

    Args:
        scores: (P,) falling.
        samples: (P,) int64, index of the sample of each.
        matched: T times int64, rising: which of them match a true box at each matching distance.
        errors: by the devkit's name, (P,); NaN where nothing matches at the distance at which
            errors are measured.
        true_boxes: (S,) int64, true boxes of the class in each sample.
    """

    scores: NDArray[np.float64]
    samples: NDArray[np.int64]
    matched: tuple[NDArray[np.int64], ...]
    errors: Errors
    true_boxes: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunMatches:
    """All matches of a result.

    Args:
        tokens: S sample tokens, in the order of the result.
        classes: by name.
        config: the devkit's `DetectionConfig`.
    """

    tokens: tuple[str, ...]
    classes: dict[str, ClassMatches]
    config: Any


def match_samples(truth: Any, detections: Any, config: Any) -> RunMatches:
    """Match all detections of a result.

    Args:
        truth: the devkit's `EvalBoxes` of ground truth, filtered.
        detections: the same of detections.
        config: its `DetectionConfig`.

    Source:
        nuscenes-devkit, nuscenes/eval/detection/algo.py, accumulate: the loop over detections.
    """
    tokens = tuple(detections.sample_tokens)
    by_class: dict[str, list[tuple[int, Any]]] = defaultdict(list)
    for i, token in enumerate(tokens):
        for box in detections[token]:
            by_class[box.detection_name].append((i, box))
    classes = {
        name: _match_class(name, by_class[name], truth, tokens, config)
        for name in config.class_names
    }
    return RunMatches(tokens=tokens, classes=classes, config=config)


def _match_class(
    name: str, detected: list[tuple[int, Any]], truth: Any, tokens: tuple[str, ...], config: Any
) -> ClassMatches:
    from nuscenes.eval.detection.constants import TP_METRICS

    # Of two equal scores the devkit takes the later first.
    ranked = sorted(((box.detection_score, i) for i, (_, box) in enumerate(detected)), reverse=True)
    order = [i for _, i in ranked]
    true = [[box for box in truth[token] if box.detection_name == name] for token in tokens]
    matches = np.zeros((len(config.dist_ths), len(order)), bool)
    errors = {metric: np.full(len(order), np.nan) for metric in TP_METRICS}
    places: dict[int, list[int]] = defaultdict(list)
    for place, i in enumerate(order):
        places[detected[i][0]].append(place)
    for sample, of_sample in places.items():
        boxes = [detected[order[place]][1] for place in of_sample]
        distances_m = _distances_m(true[sample], boxes)
        for t, limit_m in enumerate(config.dist_ths):
            for place, box, match in zip(
                of_sample, boxes, _greedy(distances_m, limit_m), strict=True
            ):
                matches[t, place] = match is not None
                if match is not None and limit_m == config.dist_th_tp:
                    for metric, value in _errors(name, true[sample][match], box).items():
                        errors[metric][place] = value
    return ClassMatches(
        scores=np.array([score for score, _ in ranked], np.float64),
        samples=np.array([detected[i][0] for i in order], np.int64),
        matched=tuple(map(np.flatnonzero, matches)),
        errors=errors,
        true_boxes=np.array([len(boxes) for boxes in true], np.int64),
    )


def _distances_m(true: list[Any], boxes: list[Any]) -> NDArray[np.float64]:
    """Return the distance of centres in the plane, (detections, true boxes)."""
    centres = np.array([box.translation[:2] for box in boxes], np.float64).reshape(-1, 1, 2)
    true_centres = np.array([box.translation[:2] for box in true], np.float64).reshape(1, -1, 2)
    distances: NDArray[np.float64] = np.linalg.norm(centres - true_centres, axis=-1)
    return distances


def _greedy(distances_m: NDArray[np.float64], limit_m: float) -> list[int | None]:
    """Give each detection, the best score first, the closest true box that is still free."""
    free_m = distances_m.copy()
    matches: list[int | None] = []
    for row in free_m:
        closest = int(np.argmin(row)) if row.size else 0
        is_match = bool(row.size) and row[closest] < limit_m
        matches.append(closest if is_match else None)
        if is_match:
            free_m[:, closest] = np.inf
    return matches


def _errors(name: str, true_box: Any, box: Any) -> dict[str, float]:
    """Return the devkit's errors of a match, by its own functions."""
    from nuscenes.eval.common import utils

    # Upstream: a barrier has no front.
    period = np.pi if name == "barrier" else 2 * np.pi
    return {
        "trans_err": utils.center_distance(true_box, box),
        "vel_err": utils.velocity_l2(true_box, box),
        "scale_err": 1 - utils.scale_iou(true_box, box),
        "orient_err": utils.yaw_diff(true_box, box, period=period),
        "attr_err": 1 - utils.attr_acc(true_box, box),
    }
