"""The recipes that need the backbones in every step, as baselines of those that do not."""

from dataclasses import replace

from shared.checkpoint.checkpoint_table import FROZEN_PARTS
from stage2_train.recipes.recipe import Recipe
from stage2_train.recipes.recipes import RECIPES, frozen_a

SPARSE_ENCODER = "pts_middle_encoder"
CACHED = ("frozen_a", "frozen_b", "frozen_all", "aqr_only")  # what a store is for
LIVE = "live_"  # before the name of the recipe that is trained with live backbones


def live(recipe: Recipe) -> Recipe:
    """Train as `recipe` does from a store, but run the frozen backbones in every step.

    This is what a store replaces: the same curve, for more time and memory.
    """
    return replace(recipe, name=LIVE + recipe.name, frozen=(*FROZEN_PARTS, *recipe.frozen))


def finetune_low(recipe: Recipe, *, with_sparse_encoder: bool) -> Recipe:
    """Also train the backbones, at low rates: image x0.01, point x0.05.

    Args:
        recipe: says everything else, including the rates of necks and head.
        with_sparse_encoder: whether it is trained as well; the comparison does so on a GPU only.
    """
    return _finetune(recipe, "finetune_low", 0.01, 0.05, with_sparse_encoder)


def finetune(recipe: Recipe, *, with_sparse_encoder: bool) -> Recipe:
    """Also train the backbones, at the full rate; see `finetune_low`."""
    return _finetune(recipe, "finetune", 1.0, 1.0, with_sparse_encoder)


def _finetune(
    recipe: Recipe, name: str, image: float, point: float, with_sparse_encoder: bool
) -> Recipe:
    rates = [("img_backbone", image), ("pts_backbone", point)]
    if with_sparse_encoder:
        rates.append((SPARSE_ENCODER, point))
    return replace(
        recipe,
        name=name,
        frozen=(*(() if with_sparse_encoder else (SPARSE_ENCODER,)), *recipe.frozen),
        lr_multipliers=(*recipe.lr_multipliers, *rates),
    )


def is_live(strategy: str) -> bool:
    """Return whether a strategy runs the backbones in every step."""
    return strategy.startswith((LIVE, "finetune"))


def live_recipe(name: str, *, with_sparse_encoder: bool) -> Recipe:
    """Return the live recipe of this name: "live_" and a recipe's name, or "finetune..."."""
    match name:
        case "finetune_low":
            return finetune_low(frozen_a(), with_sparse_encoder=with_sparse_encoder)
        case "finetune":
            return finetune(frozen_a(), with_sparse_encoder=with_sparse_encoder)
    return live(RECIPES[name.removeprefix(LIVE)]())
