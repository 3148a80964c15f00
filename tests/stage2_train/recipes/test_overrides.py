"""A field set on the command line is read as its type says, and refused with what it should be."""

from dataclasses import replace

import pytest

from shared.config.aqr_config import AqrConfig
from shared.data.sensor_drop import SensorDrop
from shared.errors import ConfigError
from stage2_train.recipes.overrides import described, kinds_by_path, override
from stage2_train.recipes.recipe import Recipe
from stage2_train.recipes.recipes import RECIPES, cmt, frozen_a, frozen_all


def rates(recipe: Recipe, **changes: float) -> tuple[tuple[str, float], ...]:
    return tuple({**dict(recipe.lr_multipliers), **changes}.items())


@pytest.mark.parametrize(
    ("settings", "changes"),
    [
        (["learning_rate=2e-4"], {"learning_rate": 2e-4}),
        (["clip_norm=10"], {"clip_norm": 10.0}),
        (["batch_size=8", "seed=3"], {"batch_size": 8, "seed": 3}),
        (["class_balanced=False"], {"class_balanced": False}),
        (["schedule=cosine"], {"schedule": "cosine"}),
        (["ema_decay=0.999"], {"ema_decay": 0.999}),
        (["ema_decay=None"], {"ema_decay": None}),
        (["steps=100", "epochs=none"], {"steps": 100, "epochs": None}),
        (["aqr.bev_window=7"], {"aqr": AqrConfig(bev_window=7)}),
        (["aqr.camera_window=none"], {"aqr": AqrConfig(camera_window=None)}),
        (
            ["aqr.min_scale=3", "aqr.initial_scale=4"],  # 4 alone would do, 3 alone would not
            {"aqr": AqrConfig(min_scale=3.0, initial_scale=4.0)},
        ),
        (["aqr=none"], {"aqr": None}),
        (["sensor_drop.lidar=0.1"], {"sensor_drop": SensorDrop(lidar=0.1)}),
        (["sensor_drop=none"], {"sensor_drop": None}),
        (["frozen=img_neck, pts_neck"], {"frozen": ("img_neck", "pts_neck")}),
        (["frozen="], {"frozen": ()}),
        (["lr_multipliers.img_neck=0.1"], {"lr_multipliers": rates(frozen_a(), img_neck=0.1)}),
        (["lr_multipliers=a:1,b.c:0.5"], {"lr_multipliers": (("a", 1.0), ("b.c", 0.5))}),
        (["name=a=b"], {"name": "a=b"}),
    ],
)
def test_a_field_takes_the_value_of_its_type(
    settings: list[str], changes: dict[str, object]
) -> None:
    assert override(frozen_a(), settings) == replace(frozen_a(), **changes)  # type: ignore[arg-type]


def test_a_factor_can_be_added_or_removed_under_a_key_with_dots() -> None:
    key = "attention_bias_generator.bias_scale"
    before = frozen_a().lr_multipliers
    removed = override(frozen_a(), [f"lr_multipliers.{key}=none"]).lr_multipliers
    assert removed == tuple(pair for pair in before if pair[0] != key)
    added = override(frozen_a(), ["lr_multipliers.a.b=2"]).lr_multipliers
    assert added == (*before, ("a.b", 2.0))


def test_an_absent_part_is_given_before_its_fields_are_set() -> None:
    changed = override(cmt(), ["aqr.bev_window=7", "aqr=default"])
    assert changed == replace(cmt(), aqr=AqrConfig(bev_window=7))


@pytest.mark.parametrize("name", RECIPES)
def test_without_settings_a_recipe_stays_what_it_is(name: str) -> None:
    assert override(RECIPES[name](), []) == RECIPES[name]()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("learning_rat=1", r"no such field; did you mean learning_rate \(a number\)\?"),
        ("bev_windw=7", r"did you mean aqr\.bev_window \(a whole number\)"),
        ("aqr.bev_windo=7", r"did you mean aqr\.bev_window \(a whole number\)"),
        ("xyzzy=1", "a recipe has no such field; there are name, aqr, aqr.effect, "),
        ("learning_rate=fast", "--set learning_rate=fast: a number is expected"),
        ("learning_rate=nan", "a number is expected"),
        ("learning_rate=none", "a number is expected"),
        ("batch_size=2.5", "a whole number is expected"),
        ("batch_size=true", "a whole number is expected"),
        ("class_balanced=1", "true or false is expected"),
        ("schedule=cosin", "--set schedule=cosin: cyclic or cosine is expected"),
        ("ema_decay=some", "a number, or none is expected"),
        ("aqr=on", r"--set aqr=on: default, or none \(its fields are set one by one\) is expected"),
        ("aqr.bev_window=five", "--set aqr.bev_window=five: a whole number is expected"),
        ("lr_multipliers=a", "KEY:FACTOR pairs with commas between is expected"),
        ("lr_multipliers.img_nek=none", "no such key to remove; there are img_neck, pts_neck"),
        ("seed.x=1", "--set seed.x: seed is a whole number and has no fields"),
        ("learning_rate", "--set learning_rate: expected FIELD=VALUE"),
        ("learning_rate=-1", "--set learning_rate=-1: recipe frozen_a: learning_rate must be abo"),
        ("steps=9", r"--set steps=9: .* set either steps or epochs.*they are 9 and 20"),
        ("aqr.bev_window=8", r"--set aqr\.bev_window=8: bev_window 8 has no cell in its middle"),
        ("aqr.dropout=7", "--set aqr.dropout=7: .*dropout 7.0 at least 0 and below 1"),
        ("sensor_drop.lidar=0.9", "--set sensor_drop.lidar=0.9: sensor drop: .*at most 1"),
    ],
)
def test_a_wrong_setting_is_refused_with_what_is_expected(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        override(frozen_a(), [setting])


def test_fields_of_a_part_that_is_absent_are_refused_with_the_way_out() -> None:
    with pytest.raises(ConfigError, match=r"aqr is none in this recipe; .* --set aqr=default"):
        override(cmt(), ["aqr.bev_window=7"])


def test_a_field_set_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="seed is set twice, to '1' and to '2'"):
        override(frozen_all(), ["seed=1", "seed=2"])


def test_every_field_has_a_type_that_can_be_set() -> None:
    kinds = kinds_by_path(Recipe)
    assert {"name", "aqr.bev_window", "sensor_drop.lidar", "lr_multipliers"} <= kinds.keys()
    assert all(described(kind) for kind in kinds.values())
