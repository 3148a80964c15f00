"""Scores of draws are, bit for bit, those of the devkit's arithmetic written out in full."""

from typing import Any

import numpy as np
import pytest
from nuscenes.eval.common.config import config_factory
from nuscenes.eval.common.utils import cummean
from nuscenes.eval.detection.algo import calc_ap, calc_tp
from nuscenes.eval.detection.constants import TP_METRICS
from nuscenes.eval.detection.data_classes import DetectionMetricData, DetectionMetrics

from stage2_train.comparison.resampled_metrics import resampled_metrics
from stage2_train.comparison.sample_matches import ClassMatches, RunMatches
from stage2_train.evaluation.distance_metrics import UNDEFINED

SAMPLES, DISTANCES = 7, 4


def written_out(matches: RunMatches, counts: np.ndarray) -> tuple[float, float]:
    """Return mAP and NDS from the curves at every detection of every class and distance."""
    metrics = DetectionMetrics(matches.config)
    for name in matches.config.class_names:
        of_class = matches.classes[name]
        taken = np.repeat(np.arange(len(of_class.scores)), counts[of_class.samples])
        positives = int(of_class.true_boxes @ counts)
        for t, limit_m in enumerate(matches.config.dist_ths):
            curve = whole_curve(of_class, t, taken, positives)
            metrics.add_label_ap(name, limit_m, calc_ap(curve, 0.1, 0.1))
            if limit_m == matches.config.dist_th_tp:
                for metric in TP_METRICS:
                    is_defined = metric not in UNDEFINED.get(name, ())
                    error = calc_tp(curve, 0.1, metric) if is_defined else np.nan
                    metrics.add_label_tp(name, metric, error)
    return metrics.mean_ap, metrics.nd_score


def whole_curve(of_class: ClassMatches, t: int, taken: np.ndarray, positives: int) -> Any:
    is_match = np.isin(taken, of_class.matched[t])
    if positives == 0 or not is_match.any():
        return DetectionMetricData.no_predictions()
    hits = np.cumsum(is_match).astype(float)
    recalls = np.linspace(0, 1, DetectionMetricData.nelem)
    recall = hits / positives
    precision = np.interp(recalls, recall, hits / np.arange(1, len(hits) + 1), right=0)
    confidence = np.interp(recalls, recall, of_class.scores[taken], right=0)
    rising = of_class.scores[taken[is_match]][::-1]
    errors = {
        metric: np.interp(confidence[::-1], rising, cummean(values[taken[is_match]])[::-1])[::-1]
        for metric, values in of_class.errors.items()
    }
    return DetectionMetricData(recall=recalls, precision=precision, confidence=confidence, **errors)


def random_class(generator: np.random.Generator, detections: int) -> ClassMatches:
    """Return matches with equal scores, velocities that are unknown and attributes that all are."""
    is_match = generator.random(detections) < np.linspace(0.1, 0.9, DISTANCES)[:, None]
    errors = {
        metric: np.where(is_match[2], generator.random(detections), np.nan) for metric in TP_METRICS
    }
    errors["vel_err"][generator.random(detections) < 0.3] = np.nan
    errors["attr_err"][:] = np.nan
    return ClassMatches(
        scores=np.sort(np.round(generator.random(detections), 2))[::-1],
        samples=generator.integers(SAMPLES, size=detections),
        matched=tuple(map(np.flatnonzero, is_match)),
        errors=errors,
        true_boxes=generator.integers(int(generator.integers(1, 60)), size=SAMPLES),
    )


@pytest.mark.parametrize("seed", range(20))
def test_any_draw_scores_the_bits_of_the_written_out_arithmetic(seed: int) -> None:
    generator = np.random.default_rng(seed)
    config = config_factory("detection_cvpr_2019")
    matches = RunMatches(
        tokens=tuple(map(str, range(SAMPLES))),
        classes={
            name: random_class(generator, int(generator.integers(150)) if i else 0)
            for i, name in enumerate(config.class_names)
        },
        config=config,
    )
    draws = generator.multinomial(SAMPLES, [1 / SAMPLES] * SAMPLES, size=5)
    for counts in (np.ones(SAMPLES, np.int64), *draws):
        scores = resampled_metrics(matches, counts)
        assert scores == written_out(matches, counts)
        assert min(scores) > 0
