"""A plan is every combination, each run with a name and a recipe of its own, checked at once."""

import json
from pathlib import Path

import pytest

from shared.config.named_config import named_config
from shared.errors import ConfigError
from stage2_train.recipes.recipe import Recipe
from stage2_train.recipes.recipes import RECIPES, frozen_a
from stage2_train.sweep.sweep_plan import (
    PlannedRun,
    planned_runs,
    recipes_named,
    record_plan,
    write_recipe,
)


def recipe(name: str = "mine", **fields: object) -> Recipe:
    return Recipe(name=name, steps=6, batch_size=2, **fields)  # type: ignore[arg-type]


def test_a_grid_is_every_recipe_with_every_value_and_seed() -> None:
    settings = ["learning_rate=1e-4,2e-4", "aqr=none"]
    runs = planned_runs([recipe("a", seed=5), recipe("b")], settings, 2)
    assert [run.name for run in runs] == [
        *("a-learning_rate-1e-4-aqr-none-seed5", "a-learning_rate-1e-4-aqr-none-seed6"),
        *("a-learning_rate-2e-4-aqr-none-seed5", "a-learning_rate-2e-4-aqr-none-seed6"),
        *("b-learning_rate-1e-4-aqr-none-seed0", "b-learning_rate-1e-4-aqr-none-seed1"),
        *("b-learning_rate-2e-4-aqr-none-seed0", "b-learning_rate-2e-4-aqr-none-seed1"),
    ]
    assert (runs[3].recipe.learning_rate, runs[3].recipe.seed) == (2e-4, 6)


def test_without_settings_and_seeds_a_recipe_is_one_run() -> None:
    assert planned_runs([recipe()], [], 1) == [PlannedRun(name="mine-seed0", recipe=recipe())]


@pytest.mark.parametrize("setting", ["learning_rate", "=1", "learning_rate=", "steps=1,,2"])
def test_a_setting_without_field_or_value_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match="expected FIELD=VALUE"):
        planned_runs([recipe()], [setting], 1)


def test_two_runs_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="both be called mine-seed0"):
        planned_runs([recipe(), recipe(tf32=True)], [], 1)
    with pytest.raises(ConfigError, match="both be called mine-seed-1-seed1"):
        planned_runs([recipe()], ["seed=1,1"], 1)


def test_a_field_below_a_field_is_named_with_a_dot() -> None:
    runs = planned_runs([frozen_a()], ["aqr.bev_window=5,7"], 1)
    assert [run.recipe.aqr and run.recipe.aqr.bev_window for run in runs] == [5, 7]


@pytest.mark.parametrize("setting", ["lerning_rate=1", "batch_size=2.5", "batch_size=0"])
def test_a_setting_that_a_recipe_cannot_have_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match=setting.partition("_")[2].partition("=")[0]):
        planned_runs([frozen_a()], [setting], 1)


@pytest.mark.parametrize("name", RECIPES)
def test_a_written_recipe_is_the_recipe(name: str, tmp_path: Path) -> None:
    planned = RECIPES[name]()
    assert named_config(Recipe, write_recipe(tmp_path, planned), {}) == planned


def test_a_function_may_yield_recipes_or_return_a_single_one(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from stage2_train.recipes.recipe import Recipe\n"
        "def single(): return Recipe(name='single', steps=1, batch_size=1)\n"
        "def several():\n"
        "    for rate in (1e-4, 2e-4):\n"
        "        yield Recipe(name=f'at_{rate}', steps=1, batch_size=1, learning_rate=rate)\n"
        "def nothing(): return []\n"
        "def mixed(): return [single(), 3]\n"
    )
    assert [made.name for made in recipes_named(f"{file}:single")] == ["single"]
    assert [made.learning_rate for made in recipes_named(f"{file}:several")] == [1e-4, 2e-4]
    for function in ("nothing", "mixed", "absent"):
        with pytest.raises(ConfigError, match="returns a Recipe or yields Recipes"):
            recipes_named(f"{file}:{function}")
    with pytest.raises(ConfigError, match="unknown recipe 'frozen'"):
        recipes_named("frozen")


def test_a_folder_keeps_its_plan_and_refuses_another(tmp_path: Path) -> None:
    runs = planned_runs([recipe()], [], 2)
    record_plan(tmp_path, runs, {"store": "a"})
    record_plan(tmp_path, runs, {"store": "a"})
    with pytest.raises(ConfigError, match="a sweep with a different store"):
        record_plan(tmp_path, runs, {"store": "b"})
    with pytest.raises(ConfigError, match=r"different runs \(of runs mine-seed2\)"):
        record_plan(tmp_path, planned_runs([recipe()], [], 3), {"store": "a"})
    changed = planned_runs([recipe(learning_rate=1.0)], [], 2)
    with pytest.raises(ConfigError, match=r"different runs \(of runs mine-seed0, mine-seed1\)"):
        record_plan(tmp_path, changed, {"store": "a"})
    with pytest.raises(ConfigError, match="different checkpoint"):
        record_plan(tmp_path, runs, {"store": "a", "checkpoint": "c"})
    assert json.loads((tmp_path / "sweep.json").read_text())["store"] == "a"


@pytest.mark.parametrize("content", ["{", "[]", ""])
def test_a_damaged_plan_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text(content)
    with pytest.raises(ConfigError, match="is damaged"):
        record_plan(tmp_path, planned_runs([recipe()], [], 1), {"store": "a"})


def test_the_folder_of_a_run_is_no_folder_for_a_sweep(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="holds a run of train-stage2"):
        record_plan(tmp_path, planned_runs([recipe()], [], 1), {"store": "a"})
