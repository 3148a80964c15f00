"""Config dataclasses to JSON and back, strictly: an unknown or missing field is an error."""

from dataclasses import asdict
from typing import Any, TypeVar

import cattrs

from shared.errors import ConfigError

Config = TypeVar("Config")

_converter = cattrs.Converter(forbid_extra_keys=True)


def _plain(value: Any, kind: type[Any]) -> Any:
    """Return a value of exactly this kind; by itself, cattrs makes a bool or text of anything."""
    # Whole numbers are also keys, which JSON turns into text, and a float may be written as one.
    accepted = {int: (int, str), float: (float, int)}.get(kind, (kind,))
    if type(value) not in accepted:
        raise TypeError(f"{value!r} is not of type {kind.__name__}")
    return kind(value)


for _kind in (bool, int, float, str):
    _converter.register_structure_hook(_kind, _plain)


def to_json(config: Any) -> dict[str, Any]:
    """Return a config dataclass as plain dicts, lists, strings and numbers."""
    plain = _converter.unstructure(asdict(config))
    assert isinstance(plain, dict)
    return plain


def from_json(kind: type[Config], document: dict[str, Any]) -> Config:
    """Rebuild a config dataclass.

    Raises:
        ConfigError: naming every field that is unknown, missing or of the wrong type.
    """
    try:
        return _converter.structure(document, kind)
    except (cattrs.BaseValidationError, KeyError, TypeError) as error:
        reasons = "; ".join(cattrs.transform_error(error))
        raise ConfigError(
            f"this is not a {kind.__name__} of this version of frozen-cmt: {reasons}"
        ) from error
