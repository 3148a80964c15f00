"""The paired test calls a difference real only when other scenes would not have undone it."""

from typing import Any

import numpy as np
import pytest
from nuscenes.eval.common.config import config_factory

from stage2_train.comparison import paired_test
from stage2_train.comparison.paired_test import (
    Resampled,
    ScoreDifference,
    group_differences,
    resample,
    run_differences,
)
from stage2_train.comparison.sample_matches import ClassMatches, RunMatches

SCENES, FRAMES, BOXES = 12, 3, 4
REPLICATES = 200


def run_matches(seed: int, share_found: float, *, scene_effect: float = 0.0) -> RunMatches:
    """Return a detector of one class that finds this share of the true boxes, with false ones.

    Scored at one distance, so that a test can afford many draws.

    Args:
        seed: of what it finds.
        share_found: of the true boxes.
        scene_effect: how far the share varies from scene to scene, the same for every seed.
    """
    config = config_factory("detection_cvpr_2019")
    config.class_names, config.dist_ths = ["car"], [config.dist_th_tp]
    generator = np.random.default_rng(seed)
    of_scene = np.random.default_rng(99).uniform(-scene_effect, scene_effect, SCENES)
    samples = np.repeat(np.arange(SCENES * FRAMES), 2 * BOXES)
    is_true = np.tile(np.arange(2 * BOXES) < BOXES, SCENES * FRAMES)
    found = is_true & (generator.random(samples.size) < share_found + of_scene[samples // FRAMES])
    scores = generator.random(samples.size)
    order = np.argsort(-scores)
    errors = {name: np.where(found, 0.5, np.nan)[order] for name in _metrics()}
    car = ClassMatches(
        scores=scores[order],
        samples=samples[order],
        matched=(np.flatnonzero(found[order]),),
        errors=errors,
        true_boxes=np.full(SCENES * FRAMES, BOXES),
    )
    return RunMatches(tokens=TOKENS, classes={"car": car}, config=config)


def _metrics() -> Any:
    from nuscenes.eval.detection.constants import TP_METRICS

    return TP_METRICS


TOKENS = tuple(f"token{i}" for i in range(SCENES * FRAMES))
SCENE_OF = {token: f"scene{i // FRAMES}" for i, token in enumerate(TOKENS)}


def of_metric(differences: list[ScoreDifference], metric: str) -> ScoreDifference:
    (difference,) = (entry for entry in differences if entry.metric == metric)
    return difference


def test_a_run_does_not_differ_from_itself() -> None:
    matches = run_matches(0, 0.5)
    differences = run_differences(resample({"a": matches, "b": matches}, SCENE_OF, REPLICATES))
    assert [(d.value, d.low, d.high, d.is_real) for d in differences] == [(0, 0, 0, False)] * 2


def test_a_clearly_better_run_is_named_first_and_the_difference_is_real() -> None:
    runs = {"poor": run_matches(0, 0.3), "good": run_matches(1, 0.8)}
    difference = of_metric(run_differences(resample(runs, SCENE_OF, REPLICATES)), "mAP")
    assert (difference.first, difference.second) == ("good", "poor")
    assert 0 < difference.low < difference.value < difference.high
    assert difference.is_real


def test_what_is_hard_for_both_cancels_in_the_difference() -> None:
    runs = {name: run_matches(i, 0.5, scene_effect=0.45) for i, name in enumerate("ab")}
    resampled = resample(runs, SCENE_OF, REPLICATES)
    difference = of_metric(run_differences(resampled), "mAP")
    alone = np.std(resampled["a"].drawn[:, 0]) + np.std(resampled["b"].drawn[:, 0])
    assert difference.high - difference.low < 2 * 1.96 * alone / 1.5


def test_about_five_percent_of_equal_runs_are_called_different() -> None:
    """With twelve scenes the intervals are known to be somewhat too narrow."""
    real = 0
    pairs = 60
    for i in range(pairs):
        runs = {"a": run_matches(2 * i, 0.5), "b": run_matches(2 * i + 1, 0.5)}
        real += of_metric(run_differences(resample(runs, SCENE_OF, 60)), "mAP").is_real
    assert real / pairs < 0.2


def test_whole_scenes_are_drawn_and_every_run_gets_the_same_draws() -> None:
    matches = run_matches(0, 0.5)
    order = np.random.default_rng(1).permutation(len(TOKENS))
    places = np.argsort(order)
    car = matches.classes["car"]
    moved = ClassMatches(
        scores=car.scores,
        samples=places[car.samples],
        matched=car.matched,
        errors=car.errors,
        true_boxes=car.true_boxes[order],
    )
    shuffled = RunMatches(
        tokens=tuple(TOKENS[i] for i in order),
        classes={**matches.classes, "car": moved},
        config=matches.config,
    )
    resampled = resample({"a": matches, "b": shuffled}, SCENE_OF, 20)
    np.testing.assert_array_equal(resampled["a"].drawn, resampled["b"].drawn)
    assert np.std(resampled["a"].drawn[:, 0]) > 0


def test_frames_of_a_scene_are_drawn_together(monkeypatch: pytest.MonkeyPatch) -> None:
    draws: list[np.ndarray] = []

    def record(_: RunMatches, counts: np.ndarray) -> tuple[float, float]:
        draws.append(counts.reshape(SCENES, FRAMES))
        return 0.0, 0.0

    monkeypatch.setattr(paired_test, "resampled_metrics", record)
    resample({"a": run_matches(0, 0.5)}, SCENE_OF, 30)
    whole, *drawn = draws
    assert (whole == 1).all()
    assert len(drawn) == 30
    assert all((counts == counts[:, :1]).all() and counts.sum() == len(TOKENS) for counts in drawn)
    assert len({counts.tobytes() for counts in drawn}) == 30


def constant(value: float) -> Resampled:
    return Resampled(whole=np.full(2, value), drawn=np.full((REPLICATES, 2), value))


def test_a_difference_between_seeds_is_not_taken_for_one_between_settings() -> None:
    """No scene matters here, so only drawing the seeds, too, can widen the interval."""
    values = {"a0": 0.2, "a1": 0.4, "b0": 0.1, "b1": 0.35, "c0": 0.9, "c1": 0.95}
    runs = {name: constant(value) for name, value in values.items()}
    groups = {letter: [f"{letter}0", f"{letter}1"] for letter in "abc"}
    of_pair = {(d.first, d.second): d for d in group_differences(runs, groups) if d.metric == "NDS"}
    assert of_pair["a", "b"].value == pytest.approx(0.075)
    assert not of_pair["a", "b"].is_real
    assert of_pair["c", "a"].is_real
