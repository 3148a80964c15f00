"""Loads a config file of mmcv 1.x or mmengine, and refuses one that silently loses its model.

Such a config is a Python program: loading runs it, so load only files you trust. Modules that it
names in `custom_imports` or `plugin_dir` are not imported and need not be installed.
"""

import ast
import traceback
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from shared.config.mm_config.run_config import BASE, run_config
from shared.errors import ConfigError

MODEL = "model"
# Dicts that are settings as a whole: a second one that does not build on the first loses it.
SECTIONS = (
    *(MODEL, "data", "optimizer", "optimizer_config", "lr_config", "runner"),
    *("train_dataloader", "optim_wrapper", "param_scheduler", "train_cfg"),
)


def load_mm_config(
    path: Path, run: Callable[[Path], dict[str, Any]] = run_config
) -> dict[str, Any]:
    """Run a config file and return what it defines, merged into its `_base_` files.

    Args:
        path: a .py file with assignments; `_base_` names files it inherits from.
        run: runs a file that has been checked; stage 1 lets mmengine do it.

    Returns:
        The top-level names; values are plain dicts, lists, tuples, strings and numbers.

    Raises:
        ConfigError: if a file is missing, has a syntax error or raises when run, if one file
            assigns `model` twice, or if the result has no `model`.
    """
    files = checked_files(path)
    try:
        config = run(path)
    except ConfigError:
        raise
    except Exception as fault:  # the file is the user's program and may raise anything
        where = _innermost_line(fault, files) or path
        raise ConfigError(
            f"{where}: running this config raised {type(fault).__name__}: {fault}"
        ) from fault
    if not isinstance(config.get(MODEL), dict):
        raise ConfigError(
            f"{path} defines no dict called `{MODEL}`, neither itself nor through `{BASE}`; name "
            "the config with which training was started"
        )
    return config


def names_in_use(path: Path) -> set[str]:
    """Return the names that a config and its bases use themselves, to make up other values.

    Raises:
        ConfigError: as `load_mm_config`.
    """
    trees = [ast.Module(_parsed(file), []) for file in checked_files(path)]
    nodes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Name)]
    return {node.id for node in nodes if isinstance(node.ctx, ast.Load)}


def checked_files(path: Path) -> list[Path]:
    """Refuse what running would not report clearly, and return the file and its bases.

    Each file is checked on its own: a base's model that a child overrides is inheritance. Commands
    do so before they import what reads a config, which takes seconds.

    Raises:
        ConfigError: if a file is missing, is no Python, or assigns a section twice.
    """
    files: list[Path] = []
    waiting = [(path, "")]
    while waiting:
        file, origin = waiting.pop()
        if not file.is_file():
            raise ConfigError(f"{origin}{file} does not exist")
        if file.suffix != ".py":
            raise ConfigError(f"{origin}{file}: only configs that are Python files can be read")
        if file in files:
            continue
        files.append(file)
        body = _parsed(file)
        _refuse_new_style(file, body)
        for name in SECTIONS:
            _refuse_second(file, body, name)
        waiting += [
            (file.parent / base, f"{file}, line {line}: `{BASE}` names a file: ")
            for base, line in _bases(body)
        ]
    return files


def _parsed(file: Path) -> list[ast.stmt]:
    """Return the top-level statements of a Python file."""
    try:
        return ast.parse(file.read_text(encoding="utf-8")).body
    except SyntaxError as fault:
        raise ConfigError(
            f"{file}, line {fault.lineno}: this is not valid Python: {fault.msg}"
        ) from fault
    except ValueError as fault:  # a null byte, or not UTF-8
        raise ConfigError(f"{file}: this is not a Python text file: {fault}") from fault


def _refuse_second(file: Path, body: list[ast.stmt], name: str) -> None:
    """Refuse a second assignment to a name that does not build on the first."""
    lines = [
        f"line {statement.lineno}"
        for statement in body
        if name in _assigned(statement) and not _reads(statement, name)
    ]
    if len(lines) > 1:
        raise ConfigError(
            f"{file} assigns `{name}` at {' and again at '.join(lines)}; Python keeps only the "
            f"{'second' if len(lines) == 2 else 'last'}, and what precedes it is silently lost: "
            "merge them into one"
        )


def _refuse_new_style(file: Path, body: list[ast.stmt]) -> None:
    """Refuse mmengine's dialect in which a config imports its bases and its types."""
    for statement in body:
        if isinstance(statement, ast.With) and _reads(statement, "read_base"):
            raise ConfigError(
                f"{file}, line {statement.lineno}: configs with `read_base()` cannot be read; name "
                f"the bases in a list called `{BASE}`, and types as strings"
            )


def _assigned(statement: ast.stmt) -> set[str]:
    """Return the names that a statement binds as a whole."""
    match statement:
        case ast.Assign(targets=targets):
            pass
        case ast.AnnAssign(target=target, value=ast.expr()):
            targets = [target]
        case _:
            return set()
    flat = [name for target in targets for name in getattr(target, "elts", [target])]
    return {name.id for name in flat if isinstance(name, ast.Name)}


def _reads(statement: ast.stmt, name: str) -> bool:
    """Return whether a statement uses the variable `name`."""
    return any(
        isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)
        for node in ast.walk(statement)
    )


def _bases(body: list[ast.stmt]) -> Iterator[tuple[str, int]]:
    """Yield the base files that are named literally, with their lines.

    Computed names and those of an installed package ("mmdet3d::...") are left to mmengine.
    """
    for statement in body:
        if isinstance(statement, ast.Assign) and BASE in _assigned(statement):
            value = statement.value
            for item in value.elts if isinstance(value, ast.List | ast.Tuple) else [value]:
                match item:
                    case ast.Constant(value=str(base)) if "::" not in base:
                        yield base, item.lineno


def _innermost_line(fault: Exception, files: Collection[Path]) -> str | None:
    """Return the innermost of `files` that a traceback passed through, and the line."""
    known = {file.resolve(): file for file in files}
    for frame in reversed(traceback.extract_tb(fault.__traceback__)):
        file = known.get(Path(frame.filename).resolve())
        if file is not None:
            return f"{file}, line {frame.lineno}"
    return None
