"""mAP and NDS of any multiset of samples, from matches that were made once.

A sample drawn twice counts as two samples. The arithmetic after the matching is nuscenes-devkit's:
its interpolation, its cumulative means, its `calc_ap` and `calc_tp`. Of equal scores, the copies of
a detection stay together; the devkit goes by the order of the samples, which says nothing.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stage2_train.comparison.sample_matches import ClassMatches, RunMatches
from stage2_train.evaluation.distance_metrics import UNDEFINED

Counts = NDArray[np.int64]


def resampled_metrics(matches: RunMatches, counts: Counts) -> tuple[float, float]:
    """Return mAP and NDS of a multiset of samples.

    Args:
        matches: of a result.
        counts: (S,) int64, how often each sample is taken; ones for the result as it is.

    Source:
        nuscenes-devkit, nuscenes/eval/detection/evaluate.py, DetectionEval.evaluate.
    """
    from nuscenes.eval.detection.algo import calc_ap, calc_tp
    from nuscenes.eval.detection.constants import TP_METRICS
    from nuscenes.eval.detection.data_classes import DetectionMetrics

    config = matches.config
    metrics = DetectionMetrics(config)
    for name in config.class_names:
        of_class = matches.classes[name]
        copies = counts[of_class.samples]
        ends = np.cumsum(copies)
        positives = int(of_class.true_boxes @ counts)
        for t, limit_m in enumerate(config.dist_ths):
            has_errors = limit_m == config.dist_th_tp
            curve = _curve(of_class, t, copies, ends, positives, has_errors=has_errors)
            metrics.add_label_ap(
                name, limit_m, calc_ap(curve, config.min_recall, config.min_precision)
            )
            for metric in TP_METRICS if has_errors else ():
                is_defined = metric not in UNDEFINED.get(name, ())
                error = calc_tp(curve, config.min_recall, metric) if is_defined else np.nan
                metrics.add_label_tp(name, metric, error)
    return metrics.mean_ap, metrics.nd_score


def _curve(
    of_class: ClassMatches,
    t: int,
    copies: Counts,
    ends: Counts,
    positives: int,
    *,
    has_errors: bool,
) -> Any:
    """Return the devkit's `DetectionMetricData` of a class at a matching distance.

    The devkit puts all copies of all detections in a row, by falling score, computes recall and
    precision at each, and interpolates. Here only those are looked at that it interpolates between.

    Args:
        of_class: matches of the class.
        t: which matching distance.
        copies: (P,) how often each detection is taken.
        ends: (P,) where its copies end in the row.
        positives: number of true boxes.
        has_errors: whether the errors are wanted, too.

    Source:
        nuscenes-devkit, nuscenes/eval/detection/algo.py, accumulate: what follows the matching.
    """
    from nuscenes.eval.detection.data_classes import DetectionMetricData

    matched = of_class.matched[t]
    copies = copies[matched]
    if positives == 0 or not copies.any():
        return DetectionMetricData.no_predictions()
    recalls = np.linspace(0, 1, DetectionMetricData.nelem)
    places, hits = _neighbours(recalls, np.cumsum(copies), ends[matched], positives, ends[-1])
    recall = hits / positives
    precision = np.interp(recalls, recall, hits / (places + 1), right=0)
    scores = of_class.scores[np.searchsorted(ends, places, side="right")]
    confidence = np.interp(recalls, recall, scores, right=0)
    curves = dict.fromkeys(of_class.errors, np.ones(len(recalls)))
    if has_errors:
        taken = np.repeat(matched, copies)
        rising = of_class.scores[taken][::-1]
        curves = {
            metric: np.interp(confidence[::-1], rising, _cumulative_mean(values[taken])[::-1])[::-1]
            for metric, values in of_class.errors.items()
        }
    return DetectionMetricData(recall=recalls, precision=precision, confidence=confidence, **curves)


def _neighbours(
    recalls: NDArray[np.float64], hits_until: Counts, ends: Counts, positives: int, length: int
) -> tuple[Counts, Counts]:
    """Return the places in the row of detections between which recalls lie, and the hits there.

    Args:
        recalls: rising, from 0.
        hits_until: of each detection that matches, the hits in the row until its copies end.
        ends: the place after its last copy.
        positives: number of true boxes.
        length: of the row.
    """
    total = hits_until[-1]
    # Recall is at most this until the next hit comes, and then above it.
    hits = np.searchsorted(np.arange(total + 1) / positives, recalls, side="right") - 1
    hits = np.unique(hits[hits < total])
    match = np.searchsorted(hits_until, hits, side="right")
    next_hit = ends[match] - (hits_until[match] - hits)
    places = np.append(np.column_stack([next_hit - 1, next_hit]), length - 1)
    hits = np.append(np.column_stack([hits, hits + 1]), total)
    return places[places >= 0], hits[places >= 0]  # the first of the row may be a hit


def _cumulative_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of all values up to each, without NaN; ones if all are NaN.

    Source:
        nuscenes-devkit, nuscenes/eval/common/utils.py, cummean, which looks for NaN in Python.
    """
    is_number = ~np.isnan(values)
    if not is_number.any():
        return np.ones(len(values))
    sums, numbers = np.nancumsum(values), np.cumsum(is_number)
    return np.divide(sums, numbers, out=np.zeros_like(sums), where=numbers != 0)
