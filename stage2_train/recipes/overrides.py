"""Single fields of a recipe set on the command line, checked against the types of its dataclasses.

learning_rate=2e-4   class_balanced=false   ema_decay=none   schedule=cosine
aqr.bev_window=7     aqr=none               aqr=default      sensor_drop.lidar=0.1
frozen=img_neck,pts_neck                    frozen=
lr_multipliers.img_neck=0.1                 lr_multipliers.img_neck=none
"""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass, replace
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from shared.errors import ConfigError
from stage2_train.recipes.recipe import Recipe

NONE, DEFAULT = "none", "default"
PAIRS = tuple[tuple[str, float], ...]
NAMES = tuple[str, ...]
BOOLEANS = {"true": True, "false": False}
PLAIN = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
LISTS = {NAMES: "names with commas between them", PAIRS: "KEY:FACTOR pairs with commas between"}

Config = TypeVar("Config")


def override(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """Return the recipe with some fields changed, all of them at once.

    Args:
        recipe: to start from.
        settings: "FIELD=VALUE" each; FIELD is a path with dots, see the module.

    Raises:
        ConfigError: if a field is unknown or set twice, a value has the wrong type, or the recipe
            refuses what it would become.
    """
    values: dict[str, str] = {}
    for setting in settings:
        path, equals, text = (part.strip() for part in setting.partition("="))
        if not equals:
            raise ConfigError(
                f"--set {setting}: expected FIELD=VALUE, for example --set learning_rate=2e-4"
            )
        if path in values:
            raise ConfigError(f"{path} is set twice, to {values[path]!r} and to {text!r}")
        values[path] = text
    return _changed(recipe, values, "") if values else recipe


def _changed(config: Config, values: Mapping[str, str], prefix: str) -> Config:
    """Return a dataclass with changed fields; `prefix` is its own path with a dot."""
    kinds = get_type_hints(type(config))
    changes: dict[str, Any] = {}
    below: dict[str, dict[str, str]] = {}
    for path, text in values.items():
        name, dot, rest = path.partition(".")
        if name not in kinds:
            raise ConfigError(_unknown(prefix + path))
        if dot:
            below.setdefault(name, {})[rest] = text
        else:
            changes[name] = _read(text, kinds[name], prefix + name)
    for name, inner in below.items():
        before = changes.get(name, getattr(config, name))
        changes[name] = _changed_below(before, kinds[name], inner, prefix + name)
    try:
        return replace(config, **changes)  # type: ignore[type-var]
    except ConfigError as error:
        words = " ".join(f"--set {prefix}{path}={text}" for path, text in values.items())
        raise ConfigError(f"{words}: {error}") from error


def _changed_below(before: Any, kind: Any, inner: Mapping[str, str], path: str) -> Any:
    """Return the value of the field at `path` with what lies below it changed."""
    if kind == PAIRS:
        return _changed_pairs(before, inner, path)
    if is_dataclass(before):
        return _changed(before, inner, f"{path}.")
    first = f"--set {path}.{next(iter(inner))}"
    if is_dataclass(_without_none(kind)):
        raise ConfigError(
            f"{first}: {path} is none in this recipe; give it one as well, --set {path}={DEFAULT}"
        )
    raise ConfigError(f"{first}: {path} is {described(kind)} and has no fields")


def _changed_pairs(
    before: tuple[tuple[str, float], ...], inner: Mapping[str, str], path: str
) -> tuple[tuple[str, float], ...]:
    """Return pairs with some factors changed, added or, with "none", removed."""
    factors = dict(before)
    for key, text in inner.items():
        factor = _read(text, float | None, f"{path}.{key}")
        if factor is not None:
            factors[key] = factor
        elif key in factors:
            del factors[key]
        else:
            raise ConfigError(
                f"--set {path}.{key}={text}: there is no such key to remove; there are "
                f"{', '.join(factors) or 'none'}"
            )
    return tuple(factors.items())


def _read(text: str, kind: Any, path: str) -> Any:
    try:
        return _value(text, kind)
    except ValueError:
        raise ConfigError(f"--set {path}={text}: {described(kind)} is expected") from None


def _value(text: str, kind: Any) -> Any:
    """Return a value of this type; ValueError if the text is none."""
    if NoneType in get_args(kind) and text.lower() == NONE:
        return None
    kind = _without_none(kind)
    if kind == NAMES:
        return tuple(_words(text))
    if kind == PAIRS:
        pairs = [word.rpartition(":") for word in _words(text)]
        return tuple((key, _value(factor, float)) for key, _, factor in pairs)
    if get_origin(kind) is Literal:
        return _one_of(text, {choice: choice for choice in get_args(kind)})
    if is_dataclass(kind):
        return _one_of(text, {DEFAULT: kind})()
    if kind is bool:
        return _one_of(text.lower(), BOOLEANS)
    number = kind(text)
    if kind is float and not math.isfinite(number):
        raise ValueError(text)
    return number


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")] if text else []


def _one_of(text: str, choices: Mapping[str, Any]) -> Any:
    if text not in choices:
        raise ValueError(text)
    return choices[text]


def described(kind: Any) -> str:
    """Return in words what a field of this type may be set to."""
    optional = f", or {NONE}" if NoneType in get_args(kind) else ""
    kind = _without_none(kind)
    if get_origin(kind) is Literal:
        return " or ".join(get_args(kind)) + optional
    if is_dataclass(kind):
        return f"{DEFAULT}{optional} (its fields are set one by one)"
    return (LISTS[kind] if kind in LISTS else PLAIN[kind]) + optional


def _without_none(kind: Any) -> Any:
    """Return X for the type X | None, and any other type as it is."""
    if get_origin(kind) not in (Union, UnionType):
        return kind
    (present,) = (option for option in get_args(kind) if option is not NoneType)
    return present


def _unknown(path: str) -> str:
    """Return what to say of a field that does not exist: those with similar names and their types.

    Names are compared without what precedes them, too: "bev_window" is near "aqr.bev_window".
    """
    kinds = kinds_by_path(Recipe)
    ends = {known.rpartition(".")[2]: known for known in kinds}
    near = [
        *difflib.get_close_matches(path, kinds),
        *(ends[end] for end in difflib.get_close_matches(path.rpartition(".")[2], ends)),
    ]
    names = [f"{known} ({described(kinds[known])})" for known in dict.fromkeys(near)]
    hint = f"did you mean {' or '.join(names)}?" if names else f"there are {', '.join(kinds)}"
    return f"--set {path}: a recipe has no such field; {hint}"


def kinds_by_path(kind: Any, prefix: str = "") -> dict[str, Any]:
    """Return the types of a dataclass's fields, and of those below them, by path."""
    paths: dict[str, Any] = {}
    for name, of_field in get_type_hints(kind).items():
        paths[prefix + name] = of_field
        if is_dataclass(_without_none(of_field)):
            paths |= kinds_by_path(_without_none(of_field), f"{prefix}{name}.")
    return paths
