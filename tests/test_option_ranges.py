"""Every number on a command line has a range, and a number outside it is refused by name.

The parsers are taken from the commands as they are, so that a new option is tested, too.
"""

import argparse
import importlib
import shlex
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
COMMANDS = {**SCRIPTS, "synthetic-nuscenes": "shared.synthetic_nuscenes.__main__:main"}
NONSENSE = ("-1", "-0.5", "1e400", "nan", "inf", "three", "", "2/8", "0x10")
NUMBERS = ("1", "8")  # in every range


class ParserFoundError(Exception):
    """Carries the parser that a command was about to use."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        super().__init__()
        self.parser = parser


def main_of(command: str) -> Callable[[list[str]], int]:
    module, _, function = COMMANDS[command].partition(":")
    main: Callable[[list[str]], int] = getattr(importlib.import_module(module), function)
    return main


def parser_of(command: str) -> argparse.ArgumentParser:
    def report(parser: argparse.ArgumentParser, *_: object) -> None:
        raise ParserFoundError(parser)

    with pytest.MonkeyPatch.context() as patch:
        for name in ("parse_args", "parse_intermixed_args"):
            patch.setattr(argparse.ArgumentParser, name, report)
        with pytest.raises(ParserFoundError) as found:
            main_of(command)([])
    return found.value.parser


def with_subcommands(
    parser: argparse.ArgumentParser, words: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    """Yield the parser and those of its subcommands, each with the words that lead to it."""
    yield words, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from with_subcommands(below, (*words, name))


def is_number(action: argparse.Action) -> bool:
    """Return whether an option's value becomes a number."""
    if action.nargs == 0 or not callable(action.type):
        return False
    for text in NUMBERS:
        try:
            if isinstance(action.type(text), int | float):
                return True
        except (argparse.ArgumentTypeError, ValueError):
            continue
    return False


def numbers() -> Iterator[tuple[str, tuple[str, ...], argparse.Action]]:
    """Yield every option with a number: its command, the words before it, and itself."""
    for command in COMMANDS:
        for words, parser in with_subcommands(parser_of(command)):
            for action in filter(is_number, parser._actions):
                yield command, words, action


OPTIONS = {
    shlex.join((command, *words, name(action))): (command, words, action)
    for name in [lambda action: (action.option_strings or [action.dest])[0]]
    for command, words, action in numbers()
}


def test_the_options_with_numbers_are_found() -> None:
    assert {
        *("extract-features --batch-size", "extract-features --workers"),
        *("extract-features --shard-mib", "extract-features --variants"),
        *("check-parity --samples", "plot-samples --min-score", "plot-sensor-weights --plot"),
        *("train-stage2 --devices", "train-stage2 --stop-after", "evaluate-stage2 --workers"),
        *("train-stage2 --seed", "train-stage2 --samples", "train-stage2 --scenes"),
        *("train-stage2 --subset-seed", "evaluate-stage2 --plot", "feature-cache verify --workers"),
        *("feature-cache estimate --seconds-per-sample", "synthetic-nuscenes --seed"),
    } <= OPTIONS.keys()


@pytest.mark.parametrize("option", OPTIONS)
def test_nonsense_is_refused_with_option_value_and_range(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command, words, action = OPTIONS[option]
    flag = action.option_strings[0]
    takes_tokens = option == "evaluate-stage2 --plot"
    for value in ("-1", "") if takes_tokens else NONSENSE:
        with pytest.raises(SystemExit) as ended:
            main_of(command)([*words, f"{flag}={value}"])
        assert ended.value.code == 2, f"{option}={value}"
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert f"argument {flag}" in said
        assert value in said
        assert " is not a " in said or "neither a whole number" in said, said
        assert "of at least" in said or " from " in said, said


@pytest.mark.parametrize("option", OPTIONS)
def test_a_default_lies_in_its_range(option: str) -> None:
    _, _, action = OPTIONS[option]
    assert callable(action.type)
    if action.default is not None:
        assert action.type(str(action.default)) == action.default


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("extract-features --batch-size", "0"), ("extract-features --shard-mib", "0")),
        *(("extract-features --variants", "0"), ("check-parity --samples", "0")),
        *(("plot-samples --samples", "0"), ("plot-samples --min-score", "1.5")),
        *(("train-stage2 --devices", "0"), ("train-stage2 --nodes", "0")),
        *(("train-stage2 --samples", "0"), ("train-stage2 --samples", "1.01")),
        *(("train-stage2 --scenes", "0"), ("train-stage2 --seed", "4294967296")),
        *(("feature-cache verify --workers", "0"), ("feature-cache estimate --samples", "0")),
        *(("synthetic-nuscenes --scenes-train", "9"), ("synthetic-nuscenes --workers", "0")),
    ],
)
def test_numbers_just_outside_a_range_are_refused(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command, words, action = OPTIONS[option]
    with pytest.raises(SystemExit, match="2"):
        main_of(command)([*words, action.option_strings[0], value])
    assert f"{value} is not a " in capsys.readouterr().err
