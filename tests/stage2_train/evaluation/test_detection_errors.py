"""Found, missed and false boxes are distinguished as in nuscenes-devkit, in the LiDAR frame."""

from pathlib import Path
from typing import Any

import numpy as np
from nuscenes.eval.common.data_classes import EvalBoxes
from nuscenes.eval.common.loaders import load_gt_of_sample_tokens
from nuscenes.eval.detection.data_classes import DetectionBox

from cache.reader import CachedFeatures
from stage2_train.evaluation.detection_errors import SampleErrors, sample_errors, worst


def boxes(token: str, *placed: tuple[str, float, float]) -> Any:
    """Return boxes of a class, x in metres, and a score."""
    made = EvalBoxes()
    made.add_boxes(
        token,
        [
            DetectionBox(
                sample_token=token,
                translation=(x, 0.0, 0.0),
                size=(2.0, 4.0, 1.5),
                rotation=(1.0, 0.0, 0.0, 0.0),
                detection_name=name,
                detection_score=score,
            )
            for name, x, score in placed
        ],
    )
    return made


def test_the_best_score_takes_the_closest_free_box_of_its_class(tables: Any) -> None:
    token = tables.sample[0]["token"]
    truth = boxes(token, ("car", 0.0, -1.0), ("car", 1.5, -1.0), ("bus", 0.0, -1.0))
    detected = boxes(
        token,
        ("car", 0.7, 0.5),  # its closest is taken by the better one, the other is in reach
        ("car", 0.1, 0.9),
        ("car", 0.1, 0.4),  # nothing left
        ("truck", 0.0, 0.9),  # another class
        ("bus", 0.0, 0.2),  # a lower score is ignored
    )

    errors = sample_errors(tables, truth, detected, token)

    assert errors.is_found.tolist() == [True, True, False]
    assert errors.is_true.tolist() == [True, True, False, False]
    assert errors.errors == 3


def test_two_metres_are_too_far(tables: Any) -> None:
    token = tables.sample[0]["token"]
    truth = boxes(token, ("car", 0.0, -1.0), ("bus", 0.0, -1.0))
    detected = boxes(token, ("car", 2.0, 1.0), ("bus", 1.99, 1.0))

    errors = sample_errors(tables, truth, detected, token)

    assert errors.is_found.tolist() == [False, True]


def test_a_sample_without_boxes_has_no_errors(tables: Any) -> None:
    token = tables.sample[0]["token"]

    errors = sample_errors(tables, boxes(token), boxes(token), token)

    assert (errors.true_boxes.shape, errors.found_boxes.shape) == ((0, 5), (0, 5))
    assert errors.errors == 0


def test_boxes_are_where_the_store_has_them(tables: Any, tiny_store: Path) -> None:
    store = CachedFeatures(tiny_store)
    token = store.tokens[1]
    truth = load_gt_of_sample_tokens(tables, [token], DetectionBox)
    frame = store.frame(token)
    expected = frame.annotations.boxes_lidar[frame.annotations.labels >= 0]

    errors = sample_errors(tables, truth, boxes(token), token)

    assert len(expected) > 3
    np.testing.assert_allclose(errors.true_boxes[:, :4], expected[:, [0, 1, 3, 4]], atol=1e-4)
    turn_rad = errors.true_boxes[:, 4] - expected[:, 6]
    np.testing.assert_allclose(np.cos(turn_rad), 1, atol=1e-4)
    ego_m = np.linalg.inv(frame.ego_from_lidar)[:2, 3]
    np.testing.assert_allclose(errors.ego_xy_m, ego_m, atol=1e-6)


def test_the_worst_come_first() -> None:
    def sample(token: str, missed: int, false: int) -> SampleErrors:
        return SampleErrors(
            token=token,
            scene="scene",
            ego_xy_m=np.zeros(2),
            true_boxes=np.zeros((missed + 1, 5)),
            found_boxes=np.zeros((false, 5)),
            is_found=np.arange(missed + 1) >= missed,
            is_true=np.zeros(false, bool),
        )

    samples = [sample("a", 1, 1), sample("b", 0, 5), sample("c", 3, 0)]

    assert [errors.token for errors in worst(samples, 2)] == ["b", "c"]
