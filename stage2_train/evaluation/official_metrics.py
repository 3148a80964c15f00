"""nuscenes-devkit's own detection metrics, also for stores with only part of a split."""

import json
import mmap
import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.errors import DatasetError
from shared.process.whole_file import whole_file
from stage2_train.evaluation.distance_metrics import by_distance
from stage2_train.evaluation.official_tables import Coverage, coverage, open_tables

BOX_KEY = re.compile(rb'"sample_token"\s*:')  # which every box of a result JSON has, nothing else


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """nuscenes-devkit's verdict on a result JSON.

    Args:
        summary: its metrics summary with our additional keys, see `judge`.
        curves: its `DetectionMetricDataList`: precision, recall and errors of every class.
        truth: its `EvalBoxes` of ground truth, filtered as it filters.
        detections: its `EvalBoxes` of detections, filtered alike.
    """

    summary: dict[str, Any]
    curves: Any
    truth: Any
    detections: Any


def official_metrics(
    results: Path, nuscenes_root: Path, version: str, tokens: Sequence[str], out: Path
) -> dict[str, Any]:
    """Evaluate a result JSON with nuscenes-devkit (detection_cvpr_2019).

    Args:
        results: official result JSON holding exactly `tokens`.
        nuscenes_root: folder with the tables of `version`.
        version: e.g. "v1.0-mini".
        tokens: the samples to evaluate. If they are not a whole official split, ground truth is
            restricted to them, and the numbers are not comparable with published ones.
        out: folder for `metrics_summary.json` and the devkit's own files.

    Returns:
        The summary of `judge`.

    Raises:
        DatasetError: if the devkit, the tables or one of the samples is missing.
    """
    tables = open_tables(nuscenes_root, version)
    return judge(results, tables, coverage(tables, tokens), tokens, out).summary


def judge(
    results: Path, tables: Any, covered: Coverage, tokens: Sequence[str], out: Path
) -> Judgement:
    """Evaluate a result JSON against opened tables; write the summary and the curves.

    The devkit's keys of the summary are unchanged. Ours: `samples`, `split` (None if not a whole
    one), `coverage` (which samples these are, in words), `true_boxes` (per class, as filtered),
    `mean_ap_present` (over the classes that have any) and `by_distance`.

    Args: as `official_metrics`; `covered` is `coverage` of the tokens.

    Raises:
        DatasetError: if there is no ground truth, or the devkit cannot rank negative scores.
    """
    require_truth(tables, results, tokens)
    evaluation = devkit_evaluation(tables, results, covered, tokens)
    try:
        metrics, curves = evaluation.evaluate()
        bands = by_distance(evaluation.gt_boxes, evaluation.pred_boxes, evaluation.cfg)
    except AssertionError as error:
        lowest = min((box.detection_score for box in evaluation.pred_boxes.all), default=0.0)
        if lowest >= 0:
            raise
        raise DatasetError(
            f"{results}: the lowest score is {lowest:g}, and nuscenes-devkit takes a score below 0 "
            "for the end of a curve; scores must be from 0 to 1 (the sigmoid of a logit)"
        ) from error
    counts = Counter(box.detection_name for box in evaluation.gt_boxes.all)
    summary = metrics.serialize()
    present = [summary["mean_dist_aps"][name] for name in counts]
    summary |= {
        "meta": evaluation.meta,
        "samples": covered.samples,
        "split": covered.split,
        "coverage": covered.statement(),
        "true_boxes": {name: counts[name] for name in evaluation.cfg.class_names},
        "mean_ap_present": sum(present) / len(present) if present else None,
        "by_distance": bands,
    }
    for name, content in (
        ("metrics_summary.json", summary),
        ("metrics_details.json", curves.serialize()),
    ):
        with whole_file(out / name, "w") as file:
            json.dump(content, file, indent=2)
    return Judgement(
        summary=summary,
        curves=curves,
        truth=evaluation.gt_boxes,
        detections=evaluation.pred_boxes,
    )


def require_truth(tables: Any, source: object, tokens: Sequence[str]) -> None:
    """Check that there is something to measure detections of these samples against.

    Raises:
        DatasetError: if not; it names `source`, where the samples come from.
    """
    from nuscenes.eval.detection.utils import category_to_detection_name

    if not any(
        category_to_detection_name(tables.get("sample_annotation", annotation)["category_name"])
        for token in tokens
        for annotation in tables.get("sample", token)["anns"]
    ):
        raise DatasetError(
            f"none of the {len(tokens)} samples of {source} has a true box of the ten classes in "
            f"the {tables.version} tables of {tables.dataroot}; there is nothing to measure against"
        )


def devkit_evaluation(tables: Any, results: Path, covered: Coverage, tokens: Sequence[str]) -> Any:
    """Return the devkit's evaluation of these samples, boxes loaded and filtered its way.

    For a whole split its own constructor is called. That takes only names of splits, and fails
    without a single detection; otherwise the same steps are taken here.
    """
    from nuscenes.eval.common.config import config_factory
    from nuscenes.eval.common.loaders import (
        add_center_dist,
        filter_eval_boxes,
        load_gt_of_sample_tokens,
        load_prediction_of_sample_tokens,
    )
    from nuscenes.eval.detection.data_classes import DetectionBox
    from nuscenes.eval.detection.evaluate import DetectionEval

    config = config_factory("detection_cvpr_2019")
    if covered.split is not None and _has_boxes(results):
        with tempfile.TemporaryDirectory() as scratch:  # it creates a folder for plots
            return DetectionEval(tables, config, str(results), covered.split, scratch, False)
    samples = list(tokens)
    detections, meta = load_prediction_of_sample_tokens(
        str(results), config.max_boxes_per_sample, DetectionBox, sample_tokens=samples
    )
    truth = load_gt_of_sample_tokens(tables, samples, DetectionBox)
    evaluation = DetectionEval.__new__(DetectionEval)
    evaluation.cfg, evaluation.meta, evaluation.verbose = config, meta, False
    for name, boxes in (("pred_boxes", detections), ("gt_boxes", truth)):
        boxes = add_center_dist(tables, boxes)
        if boxes.all:  # the devkit cannot filter an empty set
            boxes = filter_eval_boxes(tables, boxes, config.class_range)
        setattr(evaluation, name, boxes)
    return evaluation


def _has_boxes(results: Path) -> bool:
    """Return whether a result JSON has any box, reading no further than to the first."""
    with (
        results.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        return BOX_KEY.search(content) is not None
