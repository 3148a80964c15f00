"""Which runs a sweep has, and the record of it in the sweep's folder.

A folder belongs to one plan: the same command continues it, any other is refused.
"""

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shared.config.config_json import to_json
from shared.config.named_config import function_of_file, users_program
from shared.errors import ConfigError
from shared.process.whole_file import whole_file
from stage2_train.recipes.overrides import override
from stage2_train.recipes.recipe import Recipe
from stage2_train.recipes.recipes import RECIPES, load_recipe

SWEEP = "sweep.json"  # the plan; marks a folder of runs
FINISHED = "finished.json"  # of a run that has ended well
RECIPE = "recipe.py"  # of a run, for `train-stage2 --recipe`
RECIPE_FILE = '''"""The recipe of this run, written by sweep-stage2."""

import json

from shared.config.config_json import from_json
from stage2_train.recipes.overrides import override
from stage2_train.recipes.recipe import Recipe

FIELDS = r"""
{fields}
"""


def recipe() -> Recipe:
    """Return the recipe."""
    return from_json(Recipe, json.loads(FIELDS))
'''


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedRun:
    """A run of a sweep.

    Args:
        name: of its folder.
        recipe: how it trains.
    """

    name: str
    recipe: Recipe


def recipes_named(name: str) -> list[Recipe]:
    """Return the recipe of that name, or all that `path/to/file.py:function` returns or yields.

    Raises:
        ConfigError: if there is none, or the file's function fails.
    """
    file, _, function = name.rpartition(":")
    if name in RECIPES or not file.endswith(".py"):
        return [load_recipe(name)]
    make = function_of_file(Path(file), function)
    with users_program(Path(file)):
        made = make() if callable(make) else None
        every = list(made) if isinstance(made, Iterable) else [made]
    recipes = [recipe for recipe in every if isinstance(recipe, Recipe)]
    if not recipes or len(recipes) < len(every):
        raise ConfigError(
            f"{file}: {function!r} is not a function that returns a Recipe or yields Recipes"
        )
    return recipes


def planned_runs(
    recipes: Sequence[Recipe], settings: Sequence[str], seeds: int
) -> list[PlannedRun]:
    """Return every combination of recipe, values of the settings, and seed.

    Args:
        recipes: one or more.
        settings: "FIELD=VALUE,VALUE,..." each.
        seeds: how many, counted up from each recipe's own.

    Raises:
        ConfigError: if a setting does not fit a recipe, or two runs would have the same name.
    """
    choices = [_choices(setting) for setting in settings]
    runs = []
    for recipe, chosen in itertools.product(recipes, itertools.product(*choices)):
        changed = override(recipe, chosen)
        words = [changed.name, *(setting.replace("=", "-") for setting in chosen)]
        for seed in range(changed.seed, changed.seed + seeds):
            name = re.sub(r"[^A-Za-z0-9._-]", "_", "-".join((*words, f"seed{seed}")))
            runs.append(PlannedRun(name=name, recipe=replace(changed, seed=seed)))
    twice = [name for name, count in Counter(run.name for run in runs).items() if count > 1]
    if twice:
        raise ConfigError(
            f"two runs would both be called {twice[0]}; give recipes names of their own, and "
            "settings each value once"
        )
    return runs


def _choices(setting: str) -> list[str]:
    field, equals, values = setting.partition("=")
    if not equals or not field or not all(values.split(",")):
        raise ConfigError(
            f"--set {setting}: expected FIELD=VALUE,VALUE,... such as learning_rate=7e-5,1.4e-4"
        )
    return [f"{field}={value}" for value in values.split(",")]


def record_plan(folder: Path, runs: Sequence[PlannedRun], inputs: Mapping[str, Any]) -> None:
    """Write the plan of a sweep into its folder, or check that the folder is of this plan.

    Args:
        folder: of the sweep.
        runs: of the plan.
        inputs: digests of what the runs are made from, by name.

    Raises:
        ConfigError: if it is a different one, or damaged, or there is a run of `train-stage2`.
    """
    file = folder / SWEEP
    plan = {**inputs, "runs": {run.name: to_json(run.recipe) for run in runs}}
    if not file.exists():
        if (folder / "config.json").exists():
            raise ConfigError(f"{folder} holds a run of train-stage2; choose another --out")
        with whole_file(file, "w") as handle:
            json.dump(plan, handle, indent=2)
        return
    try:
        before = json.loads(file.read_bytes())
        wanted = json.loads(json.dumps(plan))
        differing = [key for key in before | wanted if before.get(key) != wanted.get(key)]
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"{file} is damaged ({error}). It says which runs the sweep has; choose another --out"
        ) from error
    if differing:
        raise ConfigError(
            f"{folder} holds a sweep with a different {' and '.join(differing)}"
            f"{_differing_runs(before.get('runs'), plan['runs'])} (see {file}); choose another "
            "--out, or repeat the command that the sweep was started with"
        )


def _differing_runs(before: Any, wanted: Mapping[str, Any]) -> str:
    """Return which runs differ, in brackets; "" if none do."""
    known = before if isinstance(before, dict) else {}
    names = [name for name in {**known, **wanted} if known.get(name) != wanted.get(name)]
    return f" (of runs {', '.join(names[:3])}{', ...' if len(names) > 3 else ''})" if names else ""


def write_recipe(folder: Path, recipe: Recipe) -> str:
    """Write a recipe as the Python file that `--recipe` takes; return what to pass to it."""
    with whole_file(folder / RECIPE, "w") as file:
        file.write(RECIPE_FILE.format(fields=json.dumps(to_json(recipe), indent=4)))
    return f"{folder / RECIPE}:recipe"
