"""A submission is checked before anything is computed, and faults are located."""

import json
from pathlib import Path
from typing import Any

import pytest

from shared.errors import DatasetError
from stage2_train.evaluation.submission import read_submission
from tests.stage2_train.evaluation.submissions import META

BOX = {
    "sample_token": "a",
    "translation": [1.0, 2.0, 3.0],
    "size": [2.0, 4.0, 1.5],
    "rotation": [1.0, 0.0, 0.0, 0.0],
    "velocity": [0.0, 1.0],
    "detection_name": "car",
    "detection_score": 0.5,
    "attribute_name": "vehicle.parked",
}


def submission(tmp_path: Path, boxes: Any) -> Path:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"meta": META, "results": {"b": [], "a": boxes}}))
    return path


def test_samples_keep_the_order_of_the_file(tmp_path: Path) -> None:
    accepted = read_submission(submission(tmp_path, [BOX, BOX]))

    assert (accepted.tokens, accepted.boxes) == (("b", "a"), 2)


@pytest.mark.parametrize(
    "allowed",
    [
        {"velocity": [float("nan"), float("nan")]},  # as ground truth has it
        {"attribute_name": ""},
        {"attribute_name": "pedestrian.sitting_lying_down"},
        {"detection_score": 1},
        {"ego_translation": [1, 2, 3], "num_pts": 4, "tracking_id": "7"},
    ],
)
def test_what_the_official_tool_takes_is_taken(tmp_path: Path, allowed: dict[str, Any]) -> None:
    assert read_submission(submission(tmp_path, [{**BOX, **allowed}])).boxes == 1


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"detection_name": "tram"}, r'detection_name is "tram"; nuScenes knows car, truck'),
        ({"detection_name": 3}, r"detection_name is 3"),
        ({"attribute_name": "fast"}, r'attribute_name is "fast"; expected cycle\.with_rider'),
        ({"detection_score": float("nan")}, r"detection_score is NaN; expected a finite number"),
        ({"detection_score": "0.5"}, r'detection_score is "0\.5"'),
        ({"detection_score": True}, r"detection_score is true"),
        ({"translation": [1.0, float("nan"), 0.0]}, r"translation is \[1\.0, NaN, 0\.0\]"),
        ({"translation": [1.0, float("inf"), 0.0]}, r"translation is .* finite"),
        ({"translation": [1.0, 2.0]}, r"translation is \[1\.0, 2\.0\]; expected 3 numbers"),
        ({"size": [1.0, None, 2.0]}, r"size is \[1\.0, null, 2\.0\]; expected 3 numbers"),
        ({"size": [1.0, 0.0, 2.0]}, r"size is .* above 0 m"),
        ({"rotation": [1.0, 0.0, 0.0]}, r"rotation is .* expected 4 numbers"),
        ({"rotation": [0, 0, 0, 0]}, r"rotation is zero"),
        ({"velocity": 3.0}, r"velocity is 3\.0; expected 2 numbers"),
        ({"velocity": [float("inf"), 0.0]}, r"velocity is \[Infinity, 0\.0\]"),
        ({"sample_token": "b"}, r'its sample_token is "b", not the token of the sample'),
    ],
)
def test_a_faulty_box_is_named(tmp_path: Path, fault: dict[str, Any], message: str) -> None:
    path = submission(tmp_path, [BOX, {**BOX, **fault}])

    with pytest.raises(DatasetError, match=rf"mine\.json, sample a, box 1: {message}"):
        read_submission(path)


@pytest.mark.parametrize("key", BOX)
def test_a_missing_field_is_named(tmp_path: Path, key: str) -> None:
    box = {name: value for name, value in BOX.items() if name != key}

    with pytest.raises(DatasetError, match=rf"sample a, box 0: no {key}; a box has"):
        read_submission(submission(tmp_path, [box]))


def test_more_than_500_boxes_of_a_sample_are_refused(tmp_path: Path) -> None:
    assert read_submission(submission(tmp_path, [BOX] * 500)).boxes == 500
    with pytest.raises(DatasetError, match="sample a: 501 boxes, nuScenes takes at most 500"):
        read_submission(submission(tmp_path, [BOX] * 501))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", 'expected an object "meta"'),
        ('{"results": {"a": []}}', 'expected an object "meta" with use_camera'),
        ('{"meta": {}}', 'expected an object "results"'),
        ('{"meta": {}, "results": []}', 'expected an object "results"'),
        ('{"meta": {}, "results": {}}', '"results" is empty'),
        ('{"meta": {}, "results": {"a": {}}}', "sample a: expected a list of boxes"),
        ('{"meta": {}, "results": {"a": [3]}}', "sample a, box 0: expected an object"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "mine.json"
    path.write_text(content)

    with pytest.raises(DatasetError, match=message):
        read_submission(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"none\.json cannot be read"):
        read_submission(tmp_path / "none.json")
