"""One field of a recipe changed by "FIELD=VALUE", checked against what the recipe then says."""

import contextlib
import difflib
import json
from typing import Any

from shared.config.config_json import from_json, to_json
from shared.errors import ConfigError
from stage2_train.recipes.recipe import Recipe

NONE = "none"


def with_field(recipe: Recipe, setting: str) -> Recipe:
    """Return the recipe with one field changed.

    Args:
        recipe: to start from.
        setting: "FIELD=VALUE"; FIELD is a path with dots, VALUE is JSON, "none" or plain text.

    Raises:
        ConfigError: if there is no such field, or it cannot have this value.
    """
    path, _, text = setting.partition("=")
    document = to_json(recipe)
    *above, field = path.split(".")
    place: Any = document
    for name in above:
        place = place.get(name) if isinstance(place, dict) else None
    if not isinstance(place, dict) or field not in place:
        raise ConfigError(f"--set {setting}: {_unknown(path, document, recipe.name)}")
    place[field] = value = _value(text)
    try:
        changed = from_json(Recipe, document)
    except ConfigError as error:
        raise ConfigError(f"--set {setting}: {error}") from error
    became: Any = to_json(changed)
    for name in (*above, field):
        became = became[name]
    # What is converted silently, such as 2.5 to the whole number 2, is not what was asked for.
    if json.dumps(became) != json.dumps(value) and became != value:
        raise ConfigError(
            f"--set {setting}: {path} would become {became!r}; its value is a "
            f"{type(became).__name__}"
        )
    return changed


def _value(text: str) -> Any:
    if text.lower() == NONE:
        return None
    with contextlib.suppress(ValueError):
        return json.loads(text, parse_constant=str)  # NaN and Infinity stay text
    return text


def _unknown(path: str, document: dict[str, Any], name: str) -> str:
    fields = dict(_paths(document))
    nearest = difflib.get_close_matches(path, fields, n=3, cutoff=0.5)
    hint = f"; nearest are {', '.join(nearest)}" if nearest else ""
    return f"recipe {name} has no field {path}{hint}"


def _paths(document: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs = []
    for key, value in document.items():
        pairs.append((prefix + key, value))
        if isinstance(value, dict):
            pairs += _paths(value, f"{prefix}{key}.")
    return pairs
