"""Runs a config file and merges it into its bases, as mmengine's `Config.fromfile` does.

For machines without mmengine. Bases are files; those of an installed package ("mmdet3d::...") and
environment variables ("{{$NAME}}") are left to mmengine.
"""

import ast
import copy
import re
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shared.errors import ConfigError

BASE = "_base_"
DELETE = "_delete_"  # in a dict: it replaces the base's instead of being merged into it


class _Base(dict[str, Any]):
    """What the bases define, for a child that writes `_base_.model.width`."""

    def __getattr__(self, name: str) -> Any:
        try:
            value = self[name]
        except KeyError:
            raise AttributeError(name) from None
        return _Base(value) if isinstance(value, dict) else value


def run_config(path: Path) -> dict[str, Any]:
    """Run a config file, a Python program, and return what it and its bases define.

    Args:
        path: a file that `load_mm_config` has checked.

    Raises:
        ConfigError: if a base is not a file, or two bases define the same name.
        Exception: whatever the program raises.

    Source:
        mmengine 0.10.7, config.py `Config._file2dict` and `_merge_a_into_b`.
    """
    tree = ast.parse(_substituted(path))
    base = _Base()
    for name in _base_names(tree, path):
        defined = run_config(path.parent / name)
        twice = sorted(base.keys() & defined.keys())
        if twice:
            raise ConfigError(f"{path}: two of its bases define {', '.join(twice)}")
        base |= defined
    tree.body = [node for node in tree.body if not _is_base(node)]
    names: dict[str, Any] = {BASE: base, "__file__": str(path)}
    exec(compile(tree, str(path), "exec"), names)
    own = {
        name: _plain(value)
        for name, value in names.items()
        if not name.startswith("__")
        and name != BASE
        and not isinstance(value, types.FunctionType | types.ModuleType)
    }
    return merged(own, dict(base))


def merged(child: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with what `child` says: dicts are merged, anything else is replaced.

    Raises:
        TypeError: if a dict would be merged into something else.
    """
    result = copy.deepcopy(dict(base))
    for key, value in child.items():
        if not isinstance(value, dict) or key not in result:
            result[key] = value
            continue
        fields = {name: field for name, field in value.items() if name != DELETE}
        if value.get(DELETE):
            result[key] = fields
        elif isinstance(result[key], dict):
            result[key] = merged(fields, result[key])
        else:
            raise TypeError(
                f"{key} is a dict here and {result[key]!r} in a base; add {DELETE}=True"
            )
    return result


def _substituted(path: Path) -> str:
    """Return the source with "{{ }}" replaced by what they stand for."""
    text = path.read_text("utf-8")
    known = {
        "fileDirname": path.absolute().parent.as_posix(),
        "fileBasename": path.name,
        "fileBasenameNoExtension": path.stem,
        "fileExtname": path.suffix,
    }
    for name, value in known.items():
        text = re.sub(r"\{\{\s*" + name + r"\s*\}\}", value, text)
    return re.sub(r"\{\{\s*(" + BASE + r"\.[\w.]+)\s*\}\}", r"\1", text)


def _is_base(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and any(
        isinstance(target, ast.Name) and target.id == BASE for target in node.targets
    )


def _base_names(tree: ast.Module, path: Path) -> list[str]:
    """Return the names of the bases, in their order."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and _is_base(node):
            try:
                value = ast.literal_eval(node.value)
            except ValueError:
                raise ConfigError(
                    f"{path}: `{BASE}` is computed; name the files as texts"
                ) from None
            names = [value] if isinstance(value, str) else list(value)
            packaged = [name for name in names if "::" in name]
            if packaged:
                raise ConfigError(
                    f"{path}: the base {packaged[0]} belongs to an installed package; name its "
                    "file instead"
                )
            return names
    return []


def _plain(value: Any) -> Any:
    """Return a copy in which dicts are of Python's own type."""
    if isinstance(value, dict):
        return {name: _plain(field) for name, field in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(item) for item in value)
    return value
