"""Names on a command line: what is said of a wrong one, and of a file of the user's that fails."""

from pathlib import Path

import pytest

from shared.config.named_config import named_config
from shared.errors import ConfigError
from stage2_train.recipes.recipe import Recipe
from stage2_train.recipes.recipes import RECIPES
from stage2_train.sweep.sweep_plan import recipes_named

BROKEN = {
    "syntax": ("def fast(:\n    pass\n", "line 1: SyntaxError: invalid syntax"),
    "missing import": ("\nimport no_such_module\n", "line 2: ModuleNotFoundError: No module named"),
    "unknown field": (
        "from stage2_train.recipes.recipe import Recipe\n"
        "def fast():\n"
        "    return Recipe(name='fast', steps=1, batch_size=1, learnig_rate=1e-4)\n",
        "line 3: TypeError: .*unexpected keyword argument 'learnig_rate'",
    ),
    "value out of range": (
        "from stage2_train.recipes.recipe import Recipe\n"
        "def fast():\n"
        "    return Recipe(name='fast', steps=1, batch_size=0)\n",
        "recipe fast: batch_size must be at least 1, it is 0",
    ),
}


def test_the_nearest_names_are_suggested_before_all_of_them() -> None:
    with pytest.raises(ConfigError) as refused:
        named_config(Recipe, "frozenb", RECIPES)
    assert "unknown recipe 'frozenb'; did you mean frozen_b or " in str(refused.value)
    assert f"Known are {', '.join(RECIPES)}" in str(refused.value)


def test_a_name_like_no_other_is_answered_with_all_of_them() -> None:
    with pytest.raises(ConfigError, match=f"unknown recipe 'x'; known are {', '.join(RECIPES)}"):
        named_config(Recipe, "x", RECIPES)


def test_a_file_without_a_function_is_told_to_name_one() -> None:
    with pytest.raises(ConfigError, match=r"the one that makes the recipe: mine\.py:NAME"):
        named_config(Recipe, "mine.py", RECIPES)


@pytest.mark.parametrize("fault", BROKEN)
@pytest.mark.parametrize("read", [lambda name: named_config(Recipe, name, {}), recipes_named])
def test_a_file_that_fails_is_one_message_with_its_line(
    fault: str, read: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source, message = BROKEN[fault]
    Path("mine.py").write_text(source)
    assert callable(read)
    with pytest.raises(ConfigError, match=message) as refused:
        read("mine.py:fast")
    assert str(refused.value).startswith("mine.py, line") or fault == "value out of range"
