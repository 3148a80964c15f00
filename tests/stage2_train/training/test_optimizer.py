"""Learning rates go where the recipe says, as mmengine would send them."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from shared.config.aqr_config import AqrConfig
from shared.config.preset_catalogue import tiny
from shared.errors import ConfigError
from shared.model.detector import build_detector
from stage2_train.freezing.freezing import freeze
from stage2_train.recipes.recipe import Recipe
from stage2_train.recipes.recipes import RECIPES, frozen_a
from stage2_train.training.optimizer import make_optimizer, parameter_groups, set_learning_rates

BASE = 1.4e-4


def rates(groups: list[dict[str, object]]) -> dict[str, float]:
    return {name: group["lr"] for group in groups for name in group["names"]}  # type: ignore


@pytest.mark.parametrize("recipe", [make() for make in RECIPES.values()], ids=lambda r: r.name)
def test_our_learning_rates_are_those_of_mmengines_constructor(recipe: Recipe) -> None:
    from mmengine.optim import DefaultOptimWrapperConstructor

    model = build_detector(tiny(), aqr=recipe.aqr)
    freeze(model, recipe.frozen)
    constructor = DefaultOptimWrapperConstructor(
        {"optimizer": {"type": "AdamW", "lr": BASE, "weight_decay": 0.01}},
        {"custom_keys": {key: {"lr_mult": factor} for key, factor in recipe.lr_multipliers}},
    )
    theirs = constructor(model).optimizer
    by_identity = {id(p): name for name, p in model.named_parameters()}
    expected = {
        by_identity[id(p)]: group["lr"]
        for group in theirs.param_groups
        for p in group["params"]
        if p.requires_grad
    }

    ours = rates(parameter_groups(model, recipe.lr_multipliers, BASE))

    assert ours.keys() == expected.keys()
    assert ours == pytest.approx(expected, rel=1e-12)


def test_the_longest_key_wins() -> None:
    model = nn.ModuleDict({"neck": nn.Linear(2, 3), "neck_norm": nn.LayerNorm(3)})

    ours = rates(parameter_groups(model, (("neck", 0.1), ("neck_norm", 0.5)), 1.0))

    assert ours["neck.weight"] == 0.1
    assert ours["neck_norm.weight"] == 0.5


def test_every_parameter_is_in_exactly_one_group() -> None:
    model = build_detector(tiny(), aqr=frozen_a().aqr)

    groups = parameter_groups(model, frozen_a().lr_multipliers, BASE)

    members = [id(p) for group in groups for p in group["params"]]  # type: ignore[attr-defined]
    assert sorted(members) == sorted(id(p) for p in model.parameters())


def test_a_key_that_matches_nothing_is_refused_and_named() -> None:
    with pytest.raises(ConfigError, match="'query_embed' is contained in no trainable"):
        parameter_groups(build_detector(tiny()), (("query_embed", 0.5),), BASE)


def test_a_recipe_that_freezes_everything_is_refused() -> None:
    model = build_detector(tiny()).requires_grad_(False)

    with pytest.raises(ConfigError, match="freezes everything"):
        make_optimizer(model, Recipe(name="x", steps=1, batch_size=1))


def test_the_schedule_moves_every_group_by_its_own_rate() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    optimizer = torch.optim.AdamW(parameter_groups(model, (("0.", 0.5),), 0.1))

    set_learning_rates(optimizer, 6.0)
    set_learning_rates(optimizer, 3.0)

    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.15, 0.3])


def test_a_frozen_parameter_is_in_no_group() -> None:
    model = nn.Linear(2, 3)
    model.bias.requires_grad_(False)

    groups = parameter_groups(model, (), BASE)

    assert [group["names"] for group in groups] == [["weight"]]


def test_a_recipe_names_either_steps_or_epochs() -> None:
    with pytest.raises(ConfigError, match="set either steps or epochs"):
        Recipe(name="x", steps=1, epochs=1, batch_size=1)


def test_one_update_moves_every_trainable_parameter() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    optimizer = torch.optim.AdamW(parameter_groups(model, (("0.", 0.5),), 0.1))
    before = [p.detach().clone() for p in model.parameters()]
    model(torch.randn(5, 2, generator=torch.Generator().manual_seed(0))).sum().backward()

    optimizer.step()

    assert all((a != b).any() for a, b in zip(before, model.parameters(), strict=True))


def test_the_bias_scale_learns_at_half_the_rate_of_the_weights() -> None:
    model = build_detector(tiny(), aqr=frozen_a().aqr)
    ours = rates(parameter_groups(model, frozen_a().lr_multipliers, 1.0))
    assert ours["pts_bbox_head.attention_bias_generator.bias_scale_logit"] == 0.5
    assert ours["pts_bbox_head.aqr_weight_generator.weight_predictor.weight"] == 1.0


@pytest.mark.parametrize("aqr", [None, AqrConfig(effect="modulation")], ids=["none", "modulation"])
def test_rates_of_parts_that_an_aqr_does_not_have_are_left_out(aqr: AqrConfig | None) -> None:
    recipe = replace(frozen_a(), aqr=aqr)
    names = rates(make_optimizer(build_detector(tiny(), aqr=aqr), recipe).param_groups)
    assert not any("attention_bias_generator" in name for name in names)
