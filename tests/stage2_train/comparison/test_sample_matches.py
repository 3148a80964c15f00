"""Scores from matches made once are nuscenes-devkit's own, for any multiset of samples."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nuscenes.eval.common.data_classes import EvalBoxes
from nuscenes.eval.detection.evaluate import DetectionEval

from stage2_train.comparison.resampled_metrics import resampled_metrics
from stage2_train.comparison.sample_matches import match_samples
from stage2_train.evaluation.official_metrics import devkit_evaluation
from stage2_train.evaluation.official_tables import coverage, open_tables, version_of
from stage2_train.evaluation.submission import read_submission
from tests.stage2_train.evaluation.submissions import spoilt, true_entries, write_submission

TOLERANCE = 1e-9


def evaluation_of(results: Path, root: Path, tables: Any = None) -> Any:
    """Return the devkit's evaluation of a result file, boxes loaded and filtered."""
    tokens = read_submission(results).tokens
    tables = tables or open_tables(root, version_of(root, tokens, results))
    return devkit_evaluation(tables, results, coverage(tables, tokens), tokens)


def with_untied_scores(results: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Return detections of which no two have the same score."""
    untied, offset = {}, 0
    for token, boxes in results.items():
        scores = [(box["detection_score"] + (offset + i) * 1e-6) / 2 for i, box in enumerate(boxes)]
        untied[token] = [
            {**box, "detection_score": score} for box, score in zip(boxes, scores, strict=True)
        ]
        offset += len(boxes)
    return untied


@pytest.fixture(scope="module")
def evaluation(synthetic_root: Path, tables: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """All six synthetic samples, spoilt detections of different scores."""
    truth = true_entries(tables, [sample["token"] for sample in tables.sample])
    detections = with_untied_scores(spoilt(truth))
    path = write_submission(tmp_path_factory.mktemp("results") / "spoilt.json", detections)
    return evaluation_of(path, synthetic_root, tables)


def devkit_scores(evaluation: Any) -> tuple[float, float]:
    metrics, _ = evaluation.evaluate()
    return metrics.mean_ap, metrics.nd_score


def copied(boxes: Any, counts: Sequence[int]) -> Any:
    """Return each sample's boxes as often as it counts, under tokens of their own."""
    several = EvalBoxes()
    for token, count in zip(boxes.sample_tokens, counts, strict=True):
        for i in range(count):
            of_copy = copy.deepcopy(boxes[token])
            for box in of_copy:
                box.sample_token = f"{token}-{i}"
            several.add_boxes(f"{token}-{i}", of_copy)
    return several


def ones(matches: Any) -> Any:
    return np.ones(len(matches.tokens), np.int64)


def test_the_samples_as_they_are_score_what_the_devkit_says(evaluation: Any) -> None:
    matches = match_samples(evaluation.gt_boxes, evaluation.pred_boxes, evaluation.cfg)

    official = devkit_scores(evaluation)

    assert 0.1 < official[0] < 0.9
    assert resampled_metrics(matches, ones(matches)) == pytest.approx(official, abs=TOLERANCE)


@pytest.mark.real
def test_a_real_submission_scores_what_the_devkit_says(nuscenes_real: Path) -> None:
    results = nuscenes_real / "results" / "cc_3dt_pure_det.mini_val.json"
    evaluation = evaluation_of(results, nuscenes_real)
    matches = match_samples(evaluation.gt_boxes, evaluation.pred_boxes, evaluation.cfg)

    official = devkit_scores(evaluation)

    assert official == pytest.approx((0.21900, 0.26915), abs=1e-5)
    assert resampled_metrics(matches, ones(matches)) == pytest.approx(official, abs=TOLERANCE)


def test_equal_scores_are_taken_in_the_devkits_order(
    synthetic_root: Path, tables: Any, tmp_path: Path
) -> None:
    results = spoilt(true_entries(tables, [sample["token"] for sample in tables.sample]))
    scores = [box["detection_score"] for boxes in results.values() for box in boxes]
    assert len(set(scores)) < len(scores) / 2
    evaluation = evaluation_of(
        write_submission(tmp_path / "tied.json", results), synthetic_root, tables
    )
    matches = match_samples(evaluation.gt_boxes, evaluation.pred_boxes, evaluation.cfg)

    official = devkit_scores(evaluation)

    assert resampled_metrics(matches, ones(matches)) == pytest.approx(official, abs=TOLERANCE)


@pytest.mark.parametrize("counts", [(2, 0, 1, 3, 0, 0), (0, 0, 0, 0, 0, 2), (1, 1, 1, 1, 1, 0)])
def test_a_sample_taken_twice_counts_as_two_samples(
    counts: tuple[int, ...], evaluation: Any
) -> None:
    matches = match_samples(evaluation.gt_boxes, evaluation.pred_boxes, evaluation.cfg)
    several = DetectionEval.__new__(DetectionEval)
    several.cfg, several.verbose = evaluation.cfg, False
    in_order = EvalBoxes()
    for token in evaluation.pred_boxes.sample_tokens:
        in_order.add_boxes(token, evaluation.gt_boxes[token])
    several.gt_boxes = copied(in_order, counts)
    several.pred_boxes = copied(evaluation.pred_boxes, counts)

    official = devkit_scores(several)

    assert resampled_metrics(matches, np.array(counts)) == pytest.approx(official, abs=TOLERANCE)


def test_no_detection_and_no_sample_score_zero(evaluation: Any) -> None:
    nothing = EvalBoxes()
    for token in evaluation.gt_boxes.sample_tokens:
        nothing.add_boxes(token, [])
    matches = match_samples(evaluation.gt_boxes, nothing, evaluation.cfg)

    assert resampled_metrics(matches, ones(matches)) == (0.0, 0.0)
    assert resampled_metrics(matches, 0 * ones(matches)) == (0.0, 0.0)
