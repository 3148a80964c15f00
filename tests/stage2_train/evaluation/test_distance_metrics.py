"""Metrics by distance are the official ones on the boxes of a band."""

from typing import Any

import pytest
from nuscenes.eval.common.config import config_factory
from nuscenes.eval.common.data_classes import EvalBoxes
from nuscenes.eval.detection.data_classes import DetectionBox

from stage2_train.evaluation.distance_metrics import by_distance

CONFIG = config_factory("detection_cvpr_2019")


def boxes(*placed: tuple[str, float], score: float = 1.0, shift_m: float = 0.0) -> Any:
    """Return boxes of a class at a distance, along x from an ego vehicle at the origin."""
    made = EvalBoxes()
    made.add_boxes(
        "sample",
        [
            DetectionBox(
                sample_token="sample",
                translation=(x + shift_m, 0.0, 0.0),
                ego_translation=(x + shift_m, 0.0, 0.0),
                size=(2.0, 4.0, 1.5),
                rotation=(1.0, 0.0, 0.0, 0.0),
                detection_name=name,
                detection_score=score,
                attribute_name="" if name in ("barrier", "traffic_cone") else "vehicle.parked",
            )
            for name, x in placed
        ],
    )
    return made


def test_a_box_counts_in_the_band_of_its_distance() -> None:
    placed = [("car", 0.0), ("car", 19.99), ("bus", 20.0), ("car", 29.99), ("car", 30.0)]

    bands = by_distance(boxes(*placed), boxes(*placed), CONFIG)

    counts = {name: (band["true_boxes"], set(band["classes"])) for name, band in bands.items()}
    assert counts == {"0-20": (2, {"car"}), "20-30": (2, {"bus", "car"}), "30+": (1, {"car"})}
    assert [band["mean_ap"] for band in bands.values()] == pytest.approx([1.0] * 3)
    assert [band["nd_score"] for band in bands.values()] == pytest.approx([1.0] * 3)


def test_an_error_of_a_band_does_not_touch_the_others() -> None:
    truth = boxes(("car", 10.0), ("car", 25.0))

    bands = by_distance(truth, boxes(("car", 10.0)), CONFIG)

    assert bands["0-20"]["mean_ap"] == pytest.approx(1.0)
    assert bands["20-30"]["mean_ap"] == 0.0
    assert bands["20-30"]["tp_errors"]["trans_err"] == 1.0  # as the devkit counts no match
    assert bands["20-30"]["nd_score"] == 0.0


def test_the_mean_is_over_the_four_matching_distances() -> None:
    bands = by_distance(boxes(("car", 10.0)), boxes(("car", 10.0), shift_m=1.5), CONFIG)

    assert bands["0-20"]["classes"]["car"]["ap"] == pytest.approx(0.5)  # 2 m and 4 m match
    assert bands["0-20"]["classes"]["car"]["trans_err"] == pytest.approx(1.5)
    # 5 * 0.5, translation 0 (1.5 is more than 1), four perfect errors, over 10
    assert bands["0-20"]["nd_score"] == pytest.approx(0.65)


def test_a_pair_on_two_sides_of_a_limit_is_not_a_match() -> None:
    bands = by_distance(boxes(("car", 19.9)), boxes(("car", 19.9), shift_m=0.2), CONFIG)

    assert bands["0-20"]["mean_ap"] == 0.0


def test_what_nothing_defines_is_none() -> None:
    cones = boxes(("traffic_cone", 5.0))

    bands = by_distance(cones, cones, CONFIG)

    near, empty = bands["0-20"], bands["30+"]
    assert near["tp_errors"]["trans_err"] == pytest.approx(0.0)
    assert near["tp_errors"]["vel_err"] is near["tp_errors"]["orient_err"] is None
    assert near["nd_score"] is None
    assert (empty["true_boxes"], empty["mean_ap"], empty["nd_score"]) == (0, None, None)
