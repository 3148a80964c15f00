"""RA, mRA, RRA and mRRA as MultiCorrupt defines them, by hand."""

import pytest

from stage2_train.evaluation.conditions.judged_condition import CLEAN_SAMPLES, JudgedCondition
from stage2_train.evaluation.conditions.relative_scores import relative_scores


def graded(family: str, severity: int) -> JudgedCondition:
    return JudgedCondition(name=f"{family}-{severity}", family=family, severity=severity)


SINGLE = JudgedCondition(name="no_lidar", family="absent sensors")
BEAMS = [graded("beams", severity) for severity in (3, 1, 2)]
FOG = [graded("fog", severity) for severity in (1, 2, 3)]
NUMBERS = {
    CLEAN_SAMPLES.key: 0.8,
    SINGLE.key: 0.2,
    **{("beams", 1): 0.6, ("beams", 2): 0.4, ("beams", 3): 0.2},
    **{("fog", 1): 0.8, ("fog", 2): 0.8, ("fog", 3): 0.4},
}
BASELINE = {
    SINGLE.key: 0.4,
    **{("beams", 1): 0.4, ("beams", 2): 0.4, ("beams", 3): 0.2},
    **{("fog", 1): 0.9, ("fog", 2): 0.8, ("fog", 3): 0.8},
}


def test_the_scores_are_those_computed_by_hand() -> None:
    scores = relative_scores([CLEAN_SAMPLES, SINGLE, *BEAMS, *FOG], NUMBERS, BASELINE)

    assert scores.ra["clean"] == 1.0
    assert scores.ra["no_lidar"] == pytest.approx(0.25)
    assert scores.ra["beams-1"] == pytest.approx(0.75)
    beams, fog = scores.families
    assert (beams.family, beams.severities, beams.is_counted) == ("beams", (1, 2, 3), True)
    assert beams.ra == pytest.approx((0.75 + 0.5 + 0.25) / 3)
    assert fog.ra == pytest.approx((1.0 + 1.0 + 0.5) / 3)
    assert scores.mra == pytest.approx((0.5 + 2.5 / 3) / 2)  # the single one does not count
    # Sums are divided, not ratios averaged: 1.2 / 1.0 and 2.0 / 2.5.
    assert beams.rra == pytest.approx(0.2)
    assert fog.rra == pytest.approx(-0.2)
    assert scores.mrra == pytest.approx(0.0)
    assert scores.rra["no_lidar"] == pytest.approx(-0.5)
    assert scores.rra["clean"] is None  # the baseline does not say


def test_a_family_without_all_severities_is_not_in_the_mean() -> None:
    scores = relative_scores([CLEAN_SAMPLES, *BEAMS, *FOG[:2]], NUMBERS, BASELINE)

    _, fog = scores.families
    assert (fog.severities, fog.is_counted) == ((1, 2), False)
    assert fog.ra == pytest.approx(1.0)
    assert scores.mra == pytest.approx(0.5)


def test_a_baseline_without_a_severity_gives_no_ratio() -> None:
    lacking = {key: value for key, value in BASELINE.items() if key != ("beams", 2)}

    scores = relative_scores([CLEAN_SAMPLES, *BEAMS, *FOG], NUMBERS, lacking)

    assert scores.families[0].rra is None
    assert scores.families[1].rra == pytest.approx(-0.2)
    assert scores.mrra is None  # a mean over fewer families would be a different number


def test_without_a_detection_or_a_baseline_nothing_is_divided() -> None:
    nothing = dict.fromkeys(NUMBERS, 0.0)

    scores = relative_scores([CLEAN_SAMPLES, SINGLE, *BEAMS], nothing)
    against_nothing = relative_scores([CLEAN_SAMPLES, *BEAMS], NUMBERS, nothing)

    assert set(scores.ra.values()) == set(scores.rra.values()) == {None}
    assert (scores.mra, scores.mrra) == (None, None)
    assert against_nothing.families[0].rra is None
