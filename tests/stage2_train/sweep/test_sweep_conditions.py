"""A sweep hands delta stores on to the runs that they are for; what they hold is in its plan."""

import json
from pathlib import Path
from typing import Any

import pytest

from cache.delta.delta_metadata import ConditionSummary
from cache.reader import CachedFeatures
from shared.config.classes import CAMERAS, LIDAR
from stage2_train.__main__ import main as train_stage2
from stage2_train.compare_runs import main as compare_runs
from stage2_train.sweep import run_process
from stage2_train.sweep_stage2 import main as sweep_stage2
from tests.cache.delta.small_deltas import plan_of, write_small_delta

RECIPES = """
from stage2_train.recipes.recipe import Recipe
FIELDS = dict(steps=2, batch_size=1, learning_rate=1e-3, validate_steps=1)
def both():
    yield Recipe(name="clean", **FIELDS)
    yield Recipe(name="beams", conditions=(("beams", 0.5),), best_by="mean_NDS", **FIELDS)
    yield Recipe(name="dark", conditions=(("dark", 0.2), ("beams", 0.3)), **FIELDS)
def clean():
    return Recipe(name="clean", **FIELDS)
def beams():
    return Recipe(name="beams", conditions=(("beams", 0.5),), best_by="mean_NDS", **FIELDS)
"""
SEARCH = """
from stage2_train.recipes.recipe import Recipe
def trial(trial):
    return Recipe(name="trial", steps=2, batch_size=1, learning_rate=1e-3, validate_steps=1)
"""


def delta(folder: Path, store: Path, name: str, sensor: str, **fields: Any) -> str:
    base = CachedFeatures(store)
    summary = ConditionSummary(name=name, family=name, severity=None, source="a test")
    path = folder / f"{store.stem}.{name}.zarr"
    plan = plan_of(base, {sensor: "rrr"})
    write_small_delta(path, base, plan, name=name, condition=summary, **fields)
    return str(path)


@pytest.fixture
def recipes(tmp_path: Path) -> str:
    (tmp_path / "recipes.py").write_text(RECIPES)
    return str(tmp_path / "recipes.py")


@pytest.fixture
def _stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_process, "TRAINING", "tests.stage2_train.sweep.fake_training")


def options_of(run: Path) -> list[str]:
    """Return what a run's stand-in was told, without store, folder and recipe."""
    words = (run / "train.log").read_text().split()
    return words[words.index("--workers") + 2 :]


def trained_as_told(run: Path) -> None:
    """Put what real training makes of these options in the place of what the stand-in left."""
    _, *words = (run / "train.log").read_text().split()  # the first is the stand-in's
    (run / "log.csv").unlink()
    assert train_stage2(words) == 0


@pytest.mark.usefixtures("_stand_in")
def test_a_run_gets_the_deltas_of_its_recipe_and_all_of_the_validation(
    tiny_store: Path, tiny_val_store: Path, recipes: str, tmp_path: Path
) -> None:
    train = [
        delta(tmp_path, tiny_store, *pair) for pair in (("beams", LIDAR), ("dark", CAMERAS[0]))
    ]
    val = [delta(tmp_path, tiny_val_store, "beams", LIDAR)]
    out = tmp_path / "sweep"
    command = [str(tiny_store), "--recipe", f"{recipes}:both", "--out", str(out), "--workers", "1"]
    places = ["--val", str(tiny_val_store), "--val-conditions", *val]

    assert sweep_stage2([*command, "--conditions", *train, *places]) == 0

    assert options_of(out / "clean-seed0") == places
    assert options_of(out / "beams-seed0") == [*places, "--conditions", train[0]]
    assert options_of(out / "dark-seed0") == [*places, "--conditions", *train[::-1]]
    plan = json.loads((out / "sweep.json").read_text())
    assert plan["conditions"].keys() == {"beams", "dark"}
    assert plan["validation conditions"].keys() == {"beams"}
    reversed_order = [*command, "--conditions", *train[::-1], *places]
    assert sweep_stage2(reversed_order) == 0


@pytest.mark.usefixtures("_stand_in")
def test_the_folder_of_a_sweep_refuses_different_deltas(
    tiny_store: Path,
    tiny_val_store: Path,
    recipes: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "changed").mkdir()
    identity = {"condition_identity": {"name": "beams", "family": "beams", "parameters": {"n": 2}}}
    stores = {
        (store, kind): delta(tmp_path / kind, store, "beams", LIDAR, **fields)
        for store in (tiny_store, tiny_val_store)
        for kind, fields in (("", {}), ("changed", identity))
    }

    def sweep(kind: str, val_kind: str | None) -> int:
        command = [
            str(tiny_store),
            "--recipe",
            f"{recipes}:beams",
            "--out",
            str(tmp_path / "sweep"),
        ]
        command += ["--conditions", stores[tiny_store, kind]]
        command += ["--val", str(tiny_val_store)]
        if val_kind is not None:
            command += ["--val-conditions", stores[tiny_val_store, val_kind]]
        capsys.readouterr()
        return sweep_stage2(command)

    assert sweep("", "") == 0
    assert sweep("changed", "") == 1
    assert "holds a sweep with a different conditions (see" in capsys.readouterr().err
    for val_kind in ("changed", None):
        assert sweep("", val_kind) == 1
        assert "with a different validation conditions (see" in capsys.readouterr().err
    assert sweep("", "") == 0


@pytest.mark.usefixtures("_stand_in")
def test_a_sweep_that_was_begun_before_there_were_conditions_goes_on(
    tiny_store: Path, recipes: str, tmp_path: Path
) -> None:
    out = tmp_path / "sweep"
    command = [str(tiny_store), "--recipe", f"{recipes}:clean", "--out", str(out)]
    assert sweep_stage2(command) == 0
    plan = json.loads((out / "sweep.json").read_text())
    del plan["conditions"], plan["validation conditions"]
    (out / "sweep.json").write_text(json.dumps(plan))
    assert sweep_stage2(command) == 0


def test_deltas_that_do_not_fit_are_refused_before_anything_starts(
    tiny_store: Path,
    tiny_val_store: Path,
    recipes: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    beams = delta(tmp_path, tiny_store, "beams", LIDAR)
    dark = delta(tmp_path, tiny_store, "dark", CAMERAS[0])
    pictures = delta(tmp_path, tiny_val_store, "pictures", LIDAR)
    (tmp_path / "search.py").write_text(SEARCH)
    grid = [str(tiny_store), "--out", str(tmp_path / "sweep"), "--recipe"]
    validated = [*grid, f"{recipes}:clean", "--val", str(tiny_val_store), "--val-conditions"]
    for command, reason in (
        (
            [*grid, f"{recipes}:both", "--conditions", beams],
            "name dark, but --conditions opens",
        ),
        ([*grid, f"{recipes}:clean", "--conditions", dark], "gives dark no probability"),
        ([*grid, f"{recipes}:beams", "--conditions", beams, beams], "both of the condition beams"),
        ([*grid, f"{recipes}:clean", "--val-conditions", beams], "name it with --val"),
        ([*validated, beams], "is a delta of a different store"),
        ([*validated, pictures], "the name of something else in this evaluation"),
    ):
        assert sweep_stage2(command) == 1, command
        assert reason in capsys.readouterr().err
    assert not (tmp_path / "sweep").exists()


def test_optuna_goes_by_the_mean_where_conditions_are_validated(
    tiny_store: Path, tiny_val_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = []
    monkeypatch.setattr(
        "stage2_train.sweep.optuna_search.search", lambda *_, metric: metrics.append(metric)
    )
    command = [str(tiny_store), "--out", str(tmp_path / "a"), "--optuna", "search.py:trial"]
    command += ["--val", str(tiny_val_store), "--nuscenes", str(tmp_path)]
    assert sweep_stage2(command) == 0
    beams = delta(tmp_path, tiny_val_store, "beams", LIDAR)
    assert sweep_stage2([*command, "--val-conditions", beams]) == 0
    assert metrics == ["NDS", "mean_NDS"]


@pytest.mark.usefixtures("_stand_in")
def test_real_runs_train_and_validate_under_conditions_and_are_compared(
    tiny_store: Path,
    tiny_val_store: Path,
    synthetic_root: Path,
    recipes: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    train = delta(tmp_path, tiny_store, "beams", LIDAR)
    val = delta(tmp_path, tiny_val_store, "beams", LIDAR)
    out = tmp_path / "sweep"
    command = [str(tiny_store), "--out", str(out), "--workers", "1"]
    command += ["--recipe", f"{recipes}:clean,{recipes}:beams", "--conditions", train]
    command += ["--val", str(tiny_val_store), "--val-conditions", val]

    assert sweep_stage2([*command, "--nuscenes", str(synthetic_root)]) == 0
    for name in ("clean", "beams"):
        trained_as_told(out / f"{name}-seed0")

    configs = {
        run: json.loads((out / f"{run}-seed0" / "config.json").read_text())
        for run in ("clean", "beams")
    }
    assert "conditions" not in configs["clean"]
    assert configs["beams"]["conditions"].keys() == {"beams"}
    for config in configs.values():
        assert config["validation"]["conditions"].keys() == {"beams"}
    capsys.readouterr()
    assert compare_runs([str(out)]) == 0
    said = capsys.readouterr().out
    assert "best mean NDS" in said
    assert "NDS under conditions in validation" in said
