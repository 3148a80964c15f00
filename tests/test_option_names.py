"""Messages call an option what the user has to type, and only options that there are."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.test_option_ranges import COMMANDS, ROOT, parser_of, with_subcommands

PACKAGES = ("stage1_extract", "stage2_train", "cache", "shared")
# Texts that mean the field of a recipe or preset, which users write in Python.
OF_A_RECIPE = {"choose another batch_size or accumulate in the recipe", "--set batch_size=N"}
OF_OTHER_PROGRAMS = {"--no-build-isolation", "--format"}  # pip, aws
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")


def options() -> tuple[set[str], set[str]]:
    """Return all options of all commands, and the names under which code knows them."""
    actions = [
        action
        for command in COMMANDS
        for _, parser in with_subcommands(parser_of(command))
        for action in parser._actions
        if action.option_strings
    ]
    spelt = {text for action in actions for text in action.option_strings}
    return spelt, {action.dest for action in actions if "_" in action.dest}


def texts_in(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and value of every string in the code that is no docstring."""
    tree = ast.parse(source)
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            yield node.lineno, node.value


def misspelt(text: str, names: set[str]) -> list[str]:
    """Return the options that a text calls by their name in the code.

    A text of a single word is a key, the name of a file or of an attribute, not a message.
    """
    if " " not in text.strip() or any(phrase in text for phrase in OF_A_RECIPE):
        return []
    return [name for name in sorted(names) if re.search(rf"\b{name}\b", text)]


def places(finds: "dict[str, list[str]]") -> str:
    return "\n".join(f"{place}: {', '.join(names)}" for place, names in finds.items())


def all_texts() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            for line, text in texts_in(file.read_text("utf-8")):
                yield f"{file.relative_to(ROOT)}:{line}", text


def test_no_message_calls_an_option_by_its_name_in_the_code() -> None:
    _, names = options()
    assert "box_convention" in names
    wrong = {place: misspelt(text, names) for place, text in all_texts() if misspelt(text, names)}
    assert not wrong, f"spell options as users type them:\n{places(wrong)}"


def test_no_message_names_an_option_that_no_command_has() -> None:
    known = options()[0] | OF_OTHER_PROGRAMS
    wrong = {
        place: unknown
        for place, text in all_texts()
        if (unknown := sorted(set(OPTION.findall(text)) - known))
    }
    assert not wrong, f"options that do not exist:\n{places(wrong)}"


def test_a_name_of_the_code_in_a_message_would_be_noticed() -> None:
    names = {"box_convention"}
    source = '''
def read(box_convention):
    """Read with the box_convention."""
    if box_convention is None:
        raise ValueError(f"{box_convention}: give a box_convention")
    return {"box_convention": box_convention}
'''
    finds = [(line, misspelt(text, names)) for line, text in texts_in(source)]
    assert [find for find in finds if find[1]] == [(5, ["box_convention"])]
    assert OPTION.findall("pass --box-convention, not a--b") == ["--box-convention"]


def test_files_are_looked_at() -> None:
    assert sum(1 for _ in all_texts()) > 1000
    assert Path(ROOT / "pyproject.toml").is_file()
