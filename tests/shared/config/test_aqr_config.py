"""A config of AQR says what is wrong with it, and older checkpoints can still be read."""

import pytest

from shared.config.aqr_config import AqrConfig, aqr_config_from_json
from shared.config.config_json import to_json
from shared.errors import ConfigError

NEW_FIELDS = ("profile", "sigma_cells", "reach")  # checkpoints before December 2026 lack them


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"attention": "flex"}, "'flex' is none of .*; it is gone, choose 'auto'"),
        ({"attention": "fast"}, r"'fast' is none of \('auto', 'kernels', 'pieces', 'dense'\)$"),
        ({"min_scale": -0.5}, r"min_scale -0\.5 .*both are 0 to 1000"),
        ({"max_scale": 1e308}, r"max_scale 1e\+308, .*both are 0 to 1000"),
        ({"sigma_cells": 0.0}, r"sigma_cells 0\.0 must be above 0"),
        ({"effect": "modulation", "profile": "gaussian"}, "effect 'modulation' has none"),
        ({"effect": "modulation", "reach": "sensor"}, "effect 'modulation' has none"),
        ({"profile": "gaussian", "reach": "sensor"}, "choose one of them"),
    ],
)
def test_attention_that_makes_no_sense_is_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AqrConfig(**wrong)  # type: ignore[arg-type]


def test_only_a_gaussian_has_a_standard_deviation() -> None:
    assert AqrConfig().bias_sigma_cells is None
    assert AqrConfig(profile="gaussian").bias_sigma_cells == 2.0
    assert AqrConfig(profile="gaussian", sigma_cells=1.0).bias_sigma_cells == 1.0


@pytest.mark.parametrize("attention", ["auto", "dense", "masked", "flex"])
def test_an_older_checkpoint_keeps_its_behaviour(attention: str) -> None:
    record = to_json(AqrConfig(bev_window=3)) | {"attention": attention}
    for field in NEW_FIELDS:
        del record[field]
    config = aqr_config_from_json(record)
    expected = "dense" if attention == "dense" else "auto"
    assert config == AqrConfig(bev_window=3, attention=expected)  # type: ignore[arg-type]
    assert (config.profile, config.reach) == ("uniform", "windows")


def test_a_current_checkpoint_comes_back_as_it_was() -> None:
    config = AqrConfig(profile="gaussian", sigma_cells=1.5, attention="pieces")
    assert aqr_config_from_json(to_json(config)) == config


def test_an_unknown_field_of_a_checkpoint_is_named() -> None:
    with pytest.raises(ConfigError, match=r"AqrConfig of this version.*extra.*experts"):
        aqr_config_from_json(to_json(AqrConfig()) | {"experts": 3})
