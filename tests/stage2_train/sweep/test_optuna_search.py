"""Optuna chooses what to train; runs are quick stand-ins."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from shared.errors import ConfigError, InterruptedWorkError, TrainingError
from stage2_train.recipes.recipe import Recipe
from stage2_train.sweep import optuna_search, run_process
from stage2_train.sweep.optuna_search import JOURNAL, search
from stage2_train.sweep_stage2 import main as sweep_stage2

optuna = pytest.importorskip("optuna", reason="Optuna, an optional extra, is not installed")

INPUTS = {"store": "digest"}
SEARCH = """
from dataclasses import replace
from stage2_train.recipes.recipe import Recipe

def rate(trial) -> Recipe:
    rate = trial.suggest_float("learning_rate", 1e-5, 1e-1, log=True)
    return Recipe(name="mine", steps=2, batch_size=1, learning_rate=rate, validate_steps=1)

def too_high(trial) -> Recipe:
    return replace(rate(trial), learning_rate=-1.0 if trial.number == 1 else 1e-3)

def none(trial):
    return None
"""
TRAINING = """
import json, math, sys
from pathlib import Path
from shared.config.config_json import from_json

folder = Path(sys.argv[sys.argv.index("--out") + 1])
with (folder.parent / "starts.txt").open("a") as file:
    file.write(folder.name + "\\n")
rate = float((folder / "recipe.py").read_text().split('"learning_rate": ')[1].split(",")[0])
if rate > 1e-2:
    sys.exit("error: it diverged")
nds = 1 - abs(math.log10(rate) + 3) / 10  # highest at 1e-3
(folder / "best.json").write_text(json.dumps({"step": 1, "NDS": nds}))
"""


def options(recipe: Recipe) -> list[str]:
    return ["store.zarr", "--workers", "3"]


@pytest.fixture
def function(tmp_path: Path) -> str:
    (tmp_path / "my_search.py").write_text(SEARCH)
    return f"{tmp_path / 'my_search.py'}:rate"


@pytest.fixture(autouse=True)
def _stand_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "stand_in_training.py").write_text(TRAINING)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{request.config.rootpath}")
    monkeypatch.setattr(run_process, "TRAINING", "stand_in_training")


def trials(folder: Path) -> list[Any]:
    """Return what Optuna's own reader finds in the folder."""
    backend = optuna.storages.journal.JournalFileBackend(str(folder / JOURNAL))
    storage = optuna.storages.JournalStorage(backend)
    return optuna.load_study(study_name="sweep", storage=storage).trials


def test_optuna_knows_every_trial_with_its_nds_and_whatever_failed(
    function: str, tmp_path: Path
) -> None:
    out = tmp_path / "search"

    search(out, function, 12, INPUTS, options, [{}])

    known = trials(out)
    assert len(known) == 12
    states = {trial.state.name for trial in known}
    assert states == {"COMPLETE", "FAIL"}  # rates above 1e-2 are a quarter of the range
    for trial in known:
        rate = trial.params["learning_rate"]
        folder = out / f"trial-{trial.number:03d}"
        assert f'"learning_rate": {rate}' in (folder / "recipe.py").read_text()
        if rate > 1e-2:
            assert trial.state.name == "FAIL"
        else:
            assert trial.value == json.loads((folder / "best.json").read_text())["NDS"]


def test_a_search_goes_on_to_more_trials_without_repeating_any(
    function: str, tmp_path: Path
) -> None:
    out = tmp_path / "search"
    search(out, function, 3, INPUTS, options, [{}])
    search(out, function, 6, INPUTS, options, [{}])
    search(out, function, 6, INPUTS, options, [{}])

    assert (out / "starts.txt").read_text().split() == [f"trial-{i:03d}" for i in range(6)]
    assert len({trial.params["learning_rate"] for trial in trials(out)}) == 6


def test_a_trial_that_a_kill_has_left_is_resumed_with_its_own_values(
    function: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "search"

    def killed(self: optuna_search.SearchRunner) -> None:
        raise InterruptedWorkError("killed", 9)

    with monkeypatch.context() as patch:
        patch.setattr(optuna_search.SearchRunner, "_start", killed)
        with pytest.raises(InterruptedWorkError):
            search(out, function, 2, INPUTS, options, [{}])
    (left,) = trials(out)
    assert left.state.name == "RUNNING"

    search(out, function, 2, INPUTS, options, [{}])

    first, second = trials(out)
    assert first.params == left.params
    assert {first.state.name, second.state.name} <= {"COMPLETE", "FAIL"}
    recipe = (out / "trial-000" / "recipe.py").read_text()
    assert f'"learning_rate": {left.params["learning_rate"]}' in recipe


def test_a_run_that_ended_before_optuna_was_told_is_told_and_not_repeated(
    function: str, tmp_path: Path
) -> None:
    out = tmp_path / "search"
    folder = out / "trial-000"
    folder.mkdir(parents=True)
    (folder / "finished.json").write_text("{}")
    (folder / "best.json").write_text('{"step": 1, "NDS": 0.875}')

    search(out, function, 1, INPUTS, options, [{}])

    assert trials(out)[0].value == 0.875
    assert not (out / "starts.txt").exists()


@pytest.mark.parametrize("scores", [None, {"step": 1, "NDS": 0.5, "mean_NDS": None}])
def test_a_trial_whose_score_was_not_measured_fails_alone(
    scores: dict[str, float | None] | None, function: str, tmp_path: Path
) -> None:
    out = tmp_path / "search"
    folder = out / "trial-000"
    folder.mkdir(parents=True)
    (folder / "finished.json").write_text("{}")
    if scores is not None:
        (folder / "best.json").write_text(json.dumps(scores))
    for number in (1, 2):
        (out / f"trial-00{number}").mkdir()
        (out / f"trial-00{number}" / "finished.json").write_text("{}")
        best = {"step": 1, "NDS": 0.9 / number, "mean_NDS": 0.25 * number}
        (out / f"trial-00{number}" / "best.json").write_text(json.dumps(best))

    search(out, function, 3, INPUTS, options, [{}], metric="mean_NDS")

    assert [trial.state.name for trial in trials(out)] == ["FAIL", "COMPLETE", "COMPLETE"]
    assert [trial.value for trial in trials(out)] == [None, 0.25, 0.5]


def test_values_that_a_recipe_refuses_fail_their_trial_alone(
    function: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    search(tmp_path / "a", function.replace(":rate", ":too_high"), 3, INPUTS, options, [{}])

    assert [trial.state.name for trial in trials(tmp_path / "a")] == [
        "COMPLETE",
        "FAIL",
        "COMPLETE",
    ]
    assert "trial-001: failed: recipe mine: learning_rate must be above 0" in caplog.text
    assert "best of 2 trials: trial-000, NDS 1.0000" in caplog.text


def test_a_function_that_fails_ends_the_search_and_is_tried_again(tmp_path: Path) -> None:
    mine, out = tmp_path / "mine.py", tmp_path / "a"
    mine.write_text("def rate(trial):\n    return no_such_name\n")
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"mine\.py, line 2: NameError: name 'no_such_name'"):
            search(out, f"{mine}:rate", 3, INPUTS, options, [{}])
        assert [trial.state.name for trial in trials(out)] == ["RUNNING"]


def test_a_search_in_which_everything_failed_is_an_error(function: str, tmp_path: Path) -> None:
    (tmp_path / "stand_in_training.py").write_text("raise SystemExit(3)")
    with pytest.raises(TrainingError, match="all 2 trials in "):
        search(tmp_path / "a", function, 2, INPUTS, options, [{}])


def test_what_is_no_function_of_a_trial_is_refused(function: str, tmp_path: Path) -> None:
    for wrong in ("frozen_a", function.replace(":rate", ":absent")):
        with pytest.raises(ConfigError, match=r"a function that takes an optuna\.Trial"):
            search(tmp_path / "a", wrong, 2, INPUTS, options, [{}])
    with pytest.raises(ConfigError, match="returned None, not a Recipe"):
        search(tmp_path / "a", function.replace(":rate", ":none"), 2, INPUTS, options, [{}])


def test_the_folder_of_a_search_is_not_that_of_a_grid_or_of_another_store(
    function: str, tmp_path: Path
) -> None:
    search(tmp_path / "a", function, 1, INPUTS, options, [{}])
    with pytest.raises(ConfigError, match="a sweep with a different store"):
        search(tmp_path / "a", function, 1, {"store": "another"}, options, [{}])
    with pytest.raises(ConfigError, match="a sweep with a different search"):
        search(tmp_path / "a", function.replace(":rate", ":none"), 1, INPUTS, options, [{}])


def test_a_search_needs_what_gives_nds_and_no_grid(
    tiny_store: Path, function: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(tiny_store), "--optuna", function, "--out", str(tmp_path / "a")]
    assert sweep_stage2(command) == 1
    assert "--val and the root of its tables with --nuscenes" in capsys.readouterr().err
    places = ["--val", str(tiny_store), "--nuscenes", str(tmp_path)]
    assert sweep_stage2([*command, *places, "--seeds", "2"]) == 1
    assert "with --optuna the function decides" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()
