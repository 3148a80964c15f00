"""Find a config by name: a function of ours, or a function in a user's own Python file."""

import contextlib
import difflib
import importlib.util
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from shared.errors import ConfigError, FrozenCmtError, UsersProgramError

Config = TypeVar("Config")


def named_config(
    kind: type[Config], name: str, known: Mapping[str, Callable[[], Config]]
) -> Config:
    """Return the config called `name`.

    Args:
        kind: what it must be, e.g. `Preset`.
        name: a key of `known`, or `path/to/file.py:function`.
        known: our own functions by name.

    Raises:
        ConfigError: if the name is unknown, or the file's function fails or returns something else.
    """
    if name in known:
        return known[name]()
    file, _, function = name.rpartition(":")
    if not file.endswith(".py"):
        raise ConfigError(_unknown(kind.__name__.lower(), name, known))
    make = function_of_file(Path(file), function)
    with users_program(Path(file)):
        config = make() if callable(make) else None
    if not isinstance(config, kind):
        raise ConfigError(f"{file}: {function!r} is not a function that returns a {kind.__name__}")
    return config


def _unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Return what to say of a name that does not exist: those that are nearest, and all."""
    if name.endswith(".py"):
        return f"{name} may hold several functions; name the one that makes the {kind}: {name}:NAME"
    near = difflib.get_close_matches(name, known)
    hint = f"did you mean {' or '.join(near)}? Known" if near else "known"
    return (
        f"unknown {kind} {name!r}; {hint} are {', '.join(known)}, or name your own as "
        "path/to/file.py:function"
    )


def function_of_file(path: Path, function: str) -> object:
    """Run a Python file and return what it calls `function`, or None.

    Raises:
        ConfigError: if there is no such file, or it fails.
    """
    if not path.is_file():
        raise ConfigError(f"{path.absolute()} does not exist")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with users_program(path):
        spec.loader.exec_module(module)
    return getattr(module, function, None)


@contextlib.contextmanager
def users_program(path: Path) -> Iterator[None]:
    """Turn what a user's own file raises into one message that names the file and its line.

    Raises:
        UsersProgramError: instead of whatever is raised in this block.
    """
    try:
        yield
    except FrozenCmtError:
        raise
    except Exception as fault:  # the file is the user's program and may raise anything
        calls = traceback.extract_tb(fault.__traceback__)
        lines = [call.lineno for call in calls if Path(call.filename) == path.absolute()]
        line, what = lines[-1] if lines else None, str(fault)
        if isinstance(fault, SyntaxError):  # its text names file and line again
            line, what = fault.lineno, fault.msg
        where = f"{path}, line {line}" if line else str(path)
        raise UsersProgramError(f"{where}: {type(fault).__name__}: {what}") from fault
