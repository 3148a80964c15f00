"""Configs survive a round trip through JSON, and nothing in a document is ignored."""

import json
from dataclasses import fields
from typing import Any

import pytest

from shared.config.augmentation import Augmentation
from shared.config.config_json import from_json, to_json
from shared.config.preset import Preset
from shared.config.preset_catalogue import PRESETS
from shared.errors import ConfigError


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_comes_back_from_the_text_of_its_document(name: str) -> None:
    preset = PRESETS[name]()
    assert from_json(Preset, json.loads(json.dumps(to_json(preset)))) == preset


@pytest.mark.parametrize("field", [field.name for field in fields(Augmentation)])
def test_a_field_of_the_wrong_type_is_refused(field: str) -> None:
    document = to_json(Augmentation()) | {field: {"not": "a number"}}
    with pytest.raises(ConfigError, match="not a Augmentation of this version"):
        from_json(Augmentation, document)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("shuffle_points", 1),
        ("shuffle_points", "no"),
        ("translation_std_m", "0.5"),
        ("translation_std_m", True),
        ("scale", [0.9]),
    ],
)
def test_a_value_is_not_converted_to_the_type_of_its_field(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field):
        from_json(Augmentation, to_json(Augmentation()) | {field: value})


@pytest.mark.parametrize(("key", "value"), [("height_px", 64.5), ("backbone", 50), ("name", {})])
def test_whole_numbers_and_text_are_what_they_are(key: str, value: object) -> None:
    document = to_json(PRESETS["tiny"]())
    section = document if key == "name" else document["camera"]
    section[key] = value
    with pytest.raises(ConfigError, match=key):
        from_json(Preset, document)


@pytest.mark.parametrize("inside", [(), ("camera",), ("grid",), ("lidar",), ("head",)])
def test_an_unknown_field_is_refused_and_named_wherever_it_is(inside: tuple[str, ...]) -> None:
    document: dict[str, Any] = to_json(PRESETS["tiny"]())
    section = document
    for key in inside:
        section = section[key]
    section["of_a_later_version"] = 1
    with pytest.raises(ConfigError, match="of_a_later_version"):
        from_json(Preset, document)


def test_a_missing_field_without_a_default_is_refused_and_named() -> None:
    document = to_json(PRESETS["tiny"]())
    del document["camera"]["height_px"]
    with pytest.raises(ConfigError, match="height_px"):
        from_json(Preset, document)
