"""Find a config by name: a function of ours, or a function in a user's own Python file."""

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from shared.errors import ConfigError

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
        ConfigError: if the name is unknown, or the file's function returns something else.
    """
    if name in known:
        return known[name]()
    file, _, function = name.rpartition(":")
    if not file.endswith(".py"):
        raise ConfigError(
            f"unknown {kind.__name__.lower()} {name!r}; known are {', '.join(known)}, or name your "
            "own as path/to/file.py:function"
        )
    make = function_of_file(Path(file), function)
    config = make() if callable(make) else None
    if not isinstance(config, kind):
        raise ConfigError(f"{file}: {function!r} is not a function that returns a {kind.__name__}")
    return config


def function_of_file(path: Path, function: str) -> object:
    """Run a Python file and return what it calls `function`, or None.

    Raises:
        ConfigError: if there is no such file.
    """
    if not path.is_file():
        raise ConfigError(f"{path} does not exist")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, function, None)
