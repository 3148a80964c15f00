"""The official metrics by distance: nuscenes-devkit's own functions on the boxes of a band.

True boxes and detections are both assigned to bands by their own distance from the ego vehicle, in
the plane, as the devkit's class ranges do. A pair on two sides of a limit is a miss and a false
positive, so the bands score a little worse than the whole; published tables do the same.
"""

from typing import Any

import numpy as np

# The bands that most published tables of nuScenes by distance use (MIT BEVFusion for one). Beyond
# 30 m nuScenes also stops counting barriers and cones. The lower limit belongs to a band.
BANDS_M = {"0-20": (0.0, 20.0), "20-30": (20.0, 30.0), "30+": (30.0, np.inf)}
# Errors that nuScenes does not define for a class.
UNDEFINED = {
    "traffic_cone": ("orient_err", "vel_err", "attr_err"),
    "barrier": ("vel_err", "attr_err"),
}


def by_distance(truth: Any, detections: Any, config: Any) -> dict[str, dict[str, Any]]:
    """Return the metrics of every band of distance.

    Args:
        truth: the devkit's `EvalBoxes` of ground truth, filtered, with distances.
        detections: the same of detections.
        config: its `DetectionConfig`.

    Returns:
        By band: `true_boxes`; `classes`, for each class with true boxes there `true_boxes`, `ap`
        (mean over the four matching distances) and the five errors; over these classes `mean_ap`,
        `tp_errors` and `nd_score`. None where nothing in the band defines a number.
    """
    return {
        name: _band(_within(truth, *limits), _within(detections, *limits), config)
        for name, limits in BANDS_M.items()
    }


def _within(boxes: Any, from_m: float, to_m: float) -> Any:
    from nuscenes.eval.common.data_classes import EvalBoxes

    band = EvalBoxes()
    for token in boxes.sample_tokens:
        band.add_boxes(token, [box for box in boxes[token] if from_m <= box.ego_dist < to_m])
    return band


def _band(truth: Any, detections: Any, config: Any) -> dict[str, Any]:
    from nuscenes.eval.detection.constants import TP_METRICS

    classes = {}
    for name in config.class_names:
        count = sum(box.detection_name == name for box in truth.all)
        if count:
            classes[name] = {"true_boxes": count, **_class_metrics(truth, detections, config, name)}
    errors = {
        metric: _mean(of_class[metric] for of_class in classes.values()) for metric in TP_METRICS
    }
    mean_ap = _mean(of_class["ap"] for of_class in classes.values())
    return {
        "true_boxes": len(truth.all),
        "mean_ap": mean_ap,
        "nd_score": _nd_score(mean_ap, list(errors.values()), config.mean_ap_weight),
        "tp_errors": errors,
        "classes": classes,
    }


def _class_metrics(truth: Any, detections: Any, config: Any, name: str) -> dict[str, float | None]:
    """Return AP and errors of a class as the devkit's `DetectionEval.evaluate` computes them."""
    from nuscenes.eval.detection.algo import accumulate, calc_ap, calc_tp
    from nuscenes.eval.detection.constants import TP_METRICS

    curves = {
        limit_m: accumulate(truth, detections, name, config.dist_fcn_callable, limit_m)
        for limit_m in config.dist_ths
    }
    aps = [calc_ap(curve, config.min_recall, config.min_precision) for curve in curves.values()]
    errors = {
        metric: None
        if metric in UNDEFINED.get(name, ())
        else calc_tp(curves[config.dist_th_tp], config.min_recall, metric)
        for metric in TP_METRICS
    }
    return {"ap": float(np.mean(aps)), **errors}


def _mean(values: Any) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def _nd_score(mean_ap: float | None, errors: list[float | None], weight: float) -> float | None:
    """Return NDS by its formula; None if one of its terms is undefined."""
    if mean_ap is None or any(error is None for error in errors):
        return None
    scores = [1.0 - min(1.0, error) for error in errors if error is not None]
    return (weight * mean_ap + sum(scores)) / (weight + len(scores))
