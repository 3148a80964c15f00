"""Runs are scored side by side: the same scores for any number at a time, in bounded memory."""

import io
import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.errors import DatasetError
from stage2_train.comparison import scored_runs
from stage2_train.comparison.compare import compare_runs
from stage2_train.comparison.compared_run import ComparedRun, read_run
from stage2_train.comparison.scored_runs import score_runs
from tests.stage2_train.comparison.run_folders import write_run
from tests.stage2_train.evaluation.submissions import META, spoilt, true_entries

DRAWS = 7
GB = 10**9


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    yield
    assert not multiprocessing.active_children()


@pytest.fixture
def runs(tables: Any, tmp_path: Path) -> list[ComparedRun]:
    """Runs with the true boxes, spoilt ones, none, and with a damaged result."""
    truth = true_entries(tables, [sample["token"] for sample in tables.sample])
    results = {"good": truth, "fair": spoilt(truth), "poor": {token: [] for token in truth}}
    folders = {
        name: write_run(tmp_path / name, results={"meta": META, "results": boxes})
        for name, boxes in {**results, "torn": {}}.items()
    }
    return [read_run(folder, name) for name, folder in folders.items()]


def at_a_time(patch: pytest.MonkeyPatch, count: int) -> None:
    patch.setattr(scored_runs, "_at_a_time", lambda _: count)


def test_scores_and_notes_are_the_same_for_any_number_at_a_time(
    runs: list[ComparedRun], synthetic_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = []
    for count in (0, 1, 3):
        at_a_time(monkeypatch, count)
        outcomes.append(score_runs(runs, synthetic_root, DRAWS))

    here, *elsewhere = outcomes
    assert [*here.resampled] == ["good", "fair", "poor"]
    assert here.resampled["fair"].drawn.shape == (DRAWS, 2)
    assert 0 < here.resampled["fair"].whole[0] < here.resampled["good"].whole[0]
    assert "torn is left out of the test" in " ".join(here.notes)
    for scored in elsewhere:
        assert (scored.scenes, scored.notes) == (here.scenes, here.notes)
        assert [*scored.resampled] == [*here.resampled]
        for name, of_run in scored.resampled.items():
            np.testing.assert_array_equal(of_run.whole, here.resampled[name].whole)
            np.testing.assert_array_equal(of_run.drawn, here.resampled[name].drawn)


@pytest.mark.parametrize("count", [0, 2])
def test_the_bars_count_every_run_read_and_every_draw_scored(
    count: int, runs: list[ComparedRun], synthetic_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()

    class Shown(scored_runs._Bar):
        def __init__(self, **options: Any) -> None:
            super().__init__(**{**options, "file": screen, "disable": False})

    monkeypatch.setattr(scored_runs, "_Bar", Shown)
    at_a_time(monkeypatch, count)
    score_runs(runs, synthetic_root, DRAWS)

    last = [line.split("\r")[-1] for line in screen.getvalue().split("\n") if line]
    assert [line.partition(":")[0] for line in last] == ["reading detections", "scoring"]
    for line, pieces in zip(last, (len(runs), 3 * (DRAWS + 1)), strict=True):
        assert f" {pieces}/{pieces} " in line


def test_without_a_terminal_the_log_names_each_run(
    runs: list[ComparedRun],
    synthetic_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    at_a_time(monkeypatch, 2)
    score_runs(runs, synthetic_root, DRAWS)
    assert "matching 3 runs with true boxes, scoring on 7 draws of 2 scenes" in caplog.messages
    said = [text for text in caplog.messages if text.startswith("scoring: ")]
    assert said[0] == "scoring: good, run 1 of 3"
    assert len(said) == 3


@pytest.mark.parametrize(
    ("cores", "available_bytes", "expected"),
    [(4, 100 * GB, 4), (4, 11 * GB, 2), (4, 1 * GB, 1), (1, 100 * GB, 1)],
)
def test_no_more_run_at_a_time_than_cores_and_memory_allow(
    cores: int, available_bytes: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(scored_runs, "available_cores", lambda: cores)
    monkeypatch.setattr(scored_runs, "available_memory_bytes", lambda: available_bytes)
    assert scored_runs._at_a_time(5 * GB) == expected
    assert scored_runs._at_a_time(0) == cores  # no run has detections
    monkeypatch.setattr("sys.platform", "darwin")
    assert scored_runs._at_a_time(5 * GB) == 0


def test_a_process_that_dies_is_named(
    runs: list[ComparedRun], synthetic_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = os.getpid()

    def killed(*_: object) -> None:
        assert os.getpid() != parent
        os.kill(os.getpid(), signal.SIGKILL)

    at_a_time(monkeypatch, 2)
    monkeypatch.setattr(scored_runs, "match_samples", killed)
    with pytest.raises(DatasetError, match=r"the process that judged good died \(exit code -9\)"):
        score_runs(runs, synthetic_root, DRAWS)


def test_runs_without_detections_are_compared_without_a_test(
    tmp_path: Path, synthetic_root: Path
) -> None:
    folders = [write_run(tmp_path / name, learning_rate=i) for i, name in enumerate("ab")]
    tables = {table.name: table for table in compare_runs(folders, synthetic_root).tables}
    assert "no run has detections" in tables["pairs"].notes
    assert tables["pairs"].rows == ()
