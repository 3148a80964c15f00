"""Runs are compared by an evaluation that they share, and by none of their training samples."""

import json
from pathlib import Path
from typing import Any

import pytest

from stage2_train.compare_runs import main as compare
from stage2_train.comparison.compare import compare_runs
from stage2_train.comparison.compared_run import read_run
from tests.stage2_train.comparison.run_folders import write_run


def add_evaluation(run: Path, place: str, score: float = 0.5, **said: Any) -> None:
    (run / place).mkdir(parents=True)
    (run / place / "results_nusc.json").write_text("{}")
    summary = {"mean_ap": score, "nd_score": score, "split": said.get("split")}
    (run / place / "metrics_summary.json").write_text(json.dumps(summary))
    record = {"evaluated": "it", "digests": {}, "samples": said.get("samples")}
    record |= {key: said[key] for key in ("code", "time") if key in said}
    (run / place / "evaluation.json").write_text(json.dumps(record))


def compared(runs: list[Path], evaluation: str | None = None) -> list[str | None]:
    return [
        run.results and str(run.results.parent.relative_to(run.path))
        for run in compare_runs(runs, evaluation=evaluation).runs
    ]


def test_an_evaluation_in_the_folder_is_used_but_not_one_without_sensors(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a")
    for place, score in (("val", 0.5), ("val/no_lidar", 0.1)):
        add_evaluation(run, place, score)
    assert read_run(run, "a").results == run / "val" / "results_nusc.json"
    assert read_run(run, "a").evaluations == ("val",)


def test_runs_are_compared_by_the_evaluation_that_they_share(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name) for name in "abc"]
    for run, places in zip(runs, (("bad", "far"), ("far", "near"), ("far",)), strict=True):
        for place in places:
            add_evaluation(run, place)
    assert compared(runs) == ["far", "far", "far"]
    add_evaluation(runs[0], "val")
    assert compared(runs) == ["far", "far", "far"]
    for run in runs[1:]:
        add_evaluation(run, "val")
    assert compared(runs) == ["val", "val", "val"]


@pytest.mark.parametrize("said", [{"samples": "a" * 64}, {"split": "mini_train"}])
def test_an_evaluation_of_training_samples_is_the_last_choice(
    tmp_path: Path, said: dict[str, str]
) -> None:
    runs = [write_run(tmp_path / name) for name in "ab"]
    for run in runs:
        add_evaluation(run, "val", **said)
    assert compared(runs) == ["val", "val"]
    add_evaluation(runs[0], "zz", samples="c" * 64, split="mini_val")
    assert compared(runs) == ["zz", "val"]


MORNING, EVENING = "2026-11-27T08:00:00+00:00", "2026-11-27T20:00:00+00:00"
SAMPLES = {"samples": "c" * 64}


def test_a_run_is_compared_by_the_newest_evaluation_of_the_same_samples(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [write_run(tmp_path / name) for name in "ab"]
    add_evaluation(runs[0], "val", 0.25, time=MORNING, **SAMPLES)
    add_evaluation(runs[0], "val-2", 0.5, time=EVENING, **SAMPLES)
    add_evaluation(runs[1], "val", 0.125, time=MORNING, **SAMPLES)
    assert compared(runs) == ["val-2", "val"]
    assert compared(runs[:1]) == ["val-2"]
    assert compared(runs, "val") == ["val", "val"]
    assert compared(runs, "val-2") == ["val-2", None]

    assert compare([str(run) for run in runs]) == 0
    said = capsys.readouterr().out
    assert "Detections compared are those in val-2 of a; val of b." in said
    assert "a: val-2 is newer than val, so it is compared." in said
    assert "0.5000" in said
    assert "0.2500" not in said


def test_a_folder_that_was_replaced_is_newer_than_the_one_beside_it(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a")
    add_evaluation(run, "val", time=EVENING, **SAMPLES)
    add_evaluation(run, "val-2", time=MORNING, **SAMPLES)
    assert compared([run]) == ["val"]
    assert "newer" not in " ".join(read_run(run, "a").notes)


def test_without_a_time_the_highest_number_is_the_newest(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a")
    for place in ("val", "val-2", "val-9", "val-10"):
        add_evaluation(run, place, **SAMPLES)
    assert compared([run]) == ["val-10"]
    (run / "val-2" / "evaluation.json").unlink()
    add_evaluation(run, "val-11", time=MORNING, samples="d" * 64)
    assert compared([run]) == ["val-10"]


@pytest.mark.parametrize("samples", ["d" * 64, None])
def test_an_evaluation_of_other_or_unknown_samples_repeats_none(
    samples: str | None, tmp_path: Path
) -> None:
    run = write_run(tmp_path / "a")
    add_evaluation(run, "val", samples=None if samples is None else "c" * 64, time=MORNING)
    add_evaluation(run, "val-2", samples=samples, time=EVENING)
    assert compared([run]) == ["val"]


def test_folders_with_numbers_of_their_own_are_not_repetitions(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a")
    add_evaluation(run, "epoch-12", time=MORNING, **SAMPLES)
    add_evaluation(run, "epoch-24", time=EVENING, **SAMPLES)
    assert compared([run]) == ["epoch-12"]


@pytest.mark.parametrize("second", ["0123456789ab", None])
def test_evaluations_by_different_code_are_named(
    second: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [write_run(tmp_path / name) for name in "abc"]
    add_evaluation(runs[0], "val", code="ffffffffffff")
    add_evaluation(runs[1], "val", **({"code": second} if second else {}))
    warning = "not all known to be evaluated by the same code"

    assert compare([str(run) for run in runs]) == 0
    said = capsys.readouterr().out
    assert f"{warning} (a by ffffffffffff, b by {second or 'unknown'})" in said

    assert compare([str(run) for run in (runs[0], runs[2])]) == 0  # the third has none
    assert warning not in capsys.readouterr().out


def test_the_evaluation_compared_is_named_and_can_be_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [write_run(tmp_path / name) for name in "ab"]
    add_evaluation(runs[0], "val", 0.25)
    add_evaluation(runs[0], "bad", 0.125)
    add_evaluation(runs[1], "val", 0.5)
    names = [str(run) for run in runs]

    assert compare(names) == 0
    said = capsys.readouterr().out
    assert "Detections compared are those in val, not bad (--evaluation takes another)." in said
    assert "0.2500" in said

    assert compare([*names, "--evaluation", "bad"]) == 0
    said = capsys.readouterr().out
    assert "Detections compared are those in bad" in said
    assert "b: no evaluation bad in it: compared by its log" in said
    assert "0.1250" in said
    assert "0.5000" not in said

    assert compare([*names, "--evaluation", "test"]) == 1
    assert "no run has detections in a folder of this name; there are val, bad" in (
        capsys.readouterr().err
    )
