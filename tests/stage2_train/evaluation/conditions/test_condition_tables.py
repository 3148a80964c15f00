"""The table of conditions says the numbers, what counts in the means, and what is missing."""

import csv
import json
from pathlib import Path

import pytest

from stage2_train.evaluation.conditions.condition_tables import nds_of, write_condition_tables
from stage2_train.evaluation.conditions.judged_condition import CLEAN_SAMPLES, JudgedCondition
from stage2_train.evaluation.conditions.judging import ConditionResult
from stage2_train.evaluation.conditions.published_baseline import read_published_baseline
from stage2_train.evaluation.conditions.score_baseline import ScoreBaseline

ERRORS = dict.fromkeys(("trans_err", "scale_err", "orient_err", "vel_err", "attr_err"), 0.25)
CONDITIONS = [
    CLEAN_SAMPLES,
    JudgedCondition(name="no_lidar", family="absent sensors"),
    *(
        JudgedCondition(name=f"{family}-{severity}", family=family, severity=severity)
        for family, severities in (("beams", (1, 2, 3)), ("fog", (1, 3)))
        for severity in severities
    ),
]


def judged(*scores: float, weights: bool = True) -> list[ConditionResult]:
    """Return a result for each condition with these NDS."""
    return [
        ConditionResult(
            condition=condition,
            summary={
                "mean_ap": nds / 2,
                "nd_score": nds,
                "tp_errors": ERRORS,
                "coverage": "3 samples",
            },
            sensor_weights=(nds - 0.5, -nds) if weights else None,
        )
        for condition, nds in zip(CONDITIONS, scores, strict=True)
    ]


RESULTS = judged(0.8, 0.2, 0.6, 0.4, 0.2, 0.8, 0.4)
BASELINE = judged(0.5, 0.4, 0.4, 0.4, 0.2, 0.8, 0.8, weights=False)


def test_the_three_files_hold_the_same_numbers(tmp_path: Path) -> None:
    write_condition_tables(tmp_path, RESULTS, ScoreBaseline(name="cmt", numbers=nds_of(BASELINE)))

    document = json.loads((tmp_path / "conditions.json").read_text())
    beams = document["conditions"]["beams-2"]
    assert beams["RA"] == pytest.approx(0.5)
    assert beams["RRA"] == pytest.approx(0.0)
    assert (beams["lidar_weight"], beams["cameras_weight"]) == pytest.approx((-0.1, -0.4))
    assert (beams["lidar_change"], beams["cameras_change"]) == pytest.approx((-0.4, 0.4))
    assert document["mRA"] == pytest.approx(0.5)
    assert document["mRRA"] == pytest.approx(0.2)
    with (tmp_path / "conditions.csv").open(newline="") as file:
        rows = {row["condition"]: row for row in csv.DictReader(file)}
    assert float(rows["beams-2"]["RA"]) == beams["RA"]
    assert rows["no_lidar"]["severity"] == ""
    text = (tmp_path / "conditions.md").read_text()
    assert "Evaluated: 3 samples. Baseline: cmt.\n\n| condition |" in text
    row = "| beams-1 | beams | 1 | 0.3000 | 0.6000 |" + " 0.2500 |" * 5
    assert f"{row} 0.7500 | 0.4000 | +50.00 |" in text
    assert "| beams | 1, 2, 3 | 0.5000 | +20.00 | yes |" in text
    assert "| fog | 1, 3 | 0.7500 | -25.00 | no |" in text
    assert "| mean (mRA, mRRA) |  | 0.5000 | +20.00 |  |" in text
    assert "| beams-2 | -0.100 | -0.400 | -0.400 | +0.400 |" in text
    assert "mean over the families at severities 1, 2, 3: beams." in text
    assert "exactly severities 1, 2, 3: fog (at 1, 3)." in text
    assert "they have no severities: no_lidar." in text


def test_a_written_table_is_a_published_baseline(tmp_path: Path) -> None:
    write_condition_tables(tmp_path, BASELINE)

    assert read_published_baseline(tmp_path / "conditions.csv") == nds_of(BASELINE)


def test_what_the_baseline_lacks_is_named(tmp_path: Path) -> None:
    numbers = {("beams", 1): 0.5, ("beams", 3): 0.5}
    published = ScoreBaseline(name="p.csv", numbers=numbers, is_published=True)

    write_condition_tables(tmp_path, RESULTS, published)

    text = (tmp_path / "conditions.md").read_text()
    assert "no number for clean, no_lidar, beams-2, fog-1, fog-3." in text
    assert "mRRA is not defined; it lacks beams." in text
    assert "same samples and the same definitions" in text
    assert json.loads((tmp_path / "conditions.json").read_text())["mRRA"] is None


def test_without_a_baseline_and_without_aqr_there_are_no_such_columns(tmp_path: Path) -> None:
    write_condition_tables(tmp_path, BASELINE)

    text = (tmp_path / "conditions.md").read_text()
    assert "RRA" not in text
    assert "weight" not in text
    assert "| mean (mRA) |  | 0.6667 |  |" in text


def test_without_a_detection_ratios_are_undefined(tmp_path: Path) -> None:
    write_condition_tables(tmp_path, judged(*[0.0] * len(CONDITIONS)))

    document = json.loads((tmp_path / "conditions.json").read_text())
    assert document["conditions"]["beams-1"]["RA"] is None
    assert "Nothing is detected on the clean samples" in " ".join(document["notes"])


def test_without_a_whole_family_there_is_no_mean(tmp_path: Path) -> None:
    write_condition_tables(tmp_path, [RESULTS[0], RESULTS[2]])

    text = (tmp_path / "conditions.md").read_text()
    assert "No family is evaluated at severities 1, 2, 3: there is no mRA." in text
    assert "beams (at 1)." in text
    assert "| mean (mRA) |  | - |  |" in text
