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
        taken = np.repeat(np.arange(len(of_class.scores)), counts[of_class.samples])
        positives = int(of_class.true_boxes @ counts)
        for t, limit_m in enumerate(config.dist_ths):
            has_errors = limit_m == config.dist_th_tp
            curve = _curve(of_class, t, taken, positives, has_errors=has_errors)
            metrics.add_label_ap(
                name, limit_m, calc_ap(curve, config.min_recall, config.min_precision)
            )
            for metric in TP_METRICS if has_errors else ():
                is_defined = metric not in UNDEFINED.get(name, ())
                error = calc_tp(curve, config.min_recall, metric) if is_defined else np.nan
                metrics.add_label_tp(name, metric, error)
    return metrics.mean_ap, metrics.nd_score


def _curve(
    of_class: ClassMatches, t: int, taken: Counts, positives: int, *, has_errors: bool
) -> Any:
    """Return the devkit's `DetectionMetricData` of a class at a matching distance.

    Args:
        of_class: matches of the class.
        t: which matching distance.
        taken: detections by falling score, each as often as its sample is taken.
        positives: number of true boxes.
        has_errors: whether the errors are wanted, too.

    Source:
        nuscenes-devkit, nuscenes/eval/detection/algo.py, accumulate: what follows the matching.
    """
    from nuscenes.eval.common.utils import cummean
    from nuscenes.eval.detection.data_classes import DetectionMetricData

    is_match = of_class.is_match[t, taken]
    if positives == 0 or not is_match.any():
        return DetectionMetricData.no_predictions()
    scores = of_class.scores[taken]
    hits = np.cumsum(is_match).astype(float)
    recalls = np.linspace(0, 1, DetectionMetricData.nelem)
    recall = hits / positives
    precision = np.interp(recalls, recall, hits / np.arange(1, len(hits) + 1), right=0)
    confidence = np.interp(recalls, recall, scores, right=0)
    curves = dict.fromkeys(of_class.errors, np.ones(len(recalls)))
    if has_errors:
        matched = taken[is_match]
        rising = of_class.scores[matched][::-1]
        curves = {
            metric: np.interp(confidence[::-1], rising, cummean(values[matched])[::-1])[::-1]
            for metric, values in of_class.errors.items()
        }
    return DetectionMetricData(recall=recalls, precision=precision, confidence=confidence, **curves)
