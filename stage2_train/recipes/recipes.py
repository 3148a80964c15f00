"""The recipes known by name, each a function that returns a `Recipe`.

A user's own recipe is a Python file with one such function; name it as `path/to/file.py:function`.
"""

from collections.abc import Callable
from dataclasses import replace

from shared.config.aqr_config import AqrConfig
from shared.config.named_config import named_config
from shared.data.sensor_drop import SensorDrop
from stage2_train.recipes.recipe import Recipe

NECKS = ("img_neck", "pts_neck")
CMT_HEAD = tuple(
    f"pts_bbox_head.{name}"
    for name in (
        "shared_conv",
        "transformer",
        "reference_points",
        "bev_embedding",
        "rv_embedding",
        "task_heads",
    )
)

# Small rates for what a CMT checkpoint has learnt already. CMT makes its query embedding with the
# two MLPs `bev_embedding` and `rv_embedding`; no parameter of it is called `query_embed`.
CMT_FROZEN_A = (
    ("img_neck", 0.05),
    ("pts_neck", 0.05),
    ("transformer", 0.5),
    ("bev_embedding", 0.5),
    ("rv_embedding", 0.5),
    ("reference_points", 0.3),
    ("task_heads", 0.8),
    ("shared_conv", 0.5),
)
AQR_RATES = (
    ("aqr_weight_generator", 1.0),
    ("attention_bias_generator", 1.0),
    ("attention_bias_generator.bias_scale", 0.5),
)


def frozen_a() -> Recipe:
    """AQR on CMT, backbones frozen, small rates on the necks: the default, from a CMT checkpoint.

    20 epochs of class-balanced samples at batch 16 with sensors left out, as CMT trains.
    """
    return Recipe(
        name="frozen_a",
        aqr=AqrConfig(),
        sensor_drop=SensorDrop(),
        class_balanced=True,
        epochs=20,
        batch_size=16,
        lr_multipliers=(*CMT_FROZEN_A, *AQR_RATES),
    )


def frozen_b() -> Recipe:
    """As frozen_a with twice the rate on the necks, for when they have more to adapt to.

    For example to AQR's "modulation", which scales what they return, or to data that the checkpoint
    was not trained on.
    """
    recipe = frozen_a()
    faster = tuple((key, 0.1 if key in NECKS else rate) for key, rate in recipe.lr_multipliers)
    return replace(recipe, name="frozen_b", lr_multipliers=faster)


def frozen_all() -> Recipe:
    """As frozen_a with the necks frozen, too: may use a store cut at the neck.

    For when the necks' features must not change, or disk and time are short.
    """
    recipe = frozen_a()
    rates = tuple(pair for pair in recipe.lr_multipliers if pair[0] not in NECKS)
    return replace(recipe, name="frozen_all", frozen=NECKS, lr_multipliers=rates)


def aqr_only() -> Recipe:
    """Train only AQR, on an otherwise frozen detector: may use a store cut at the memory.

    The cheapest run, and the one that shows what AQR adds by itself.
    """
    return replace(
        frozen_a(), name="aqr_only", frozen=(*NECKS, *CMT_HEAD), lr_multipliers=AQR_RATES
    )


def cmt() -> Recipe:
    """As frozen_a without AQR: the baseline, and the recipe for detectors of one sensor.

    Sensors are never left out, since such a detector has no other.
    """
    return replace(frozen_a(), name="cmt", aqr=None, sensor_drop=None, lr_multipliers=CMT_FROZEN_A)


def from_scratch() -> Recipe:
    """Necks and head from random weights at CMT's own rate, for when there is no checkpoint."""
    return Recipe(name="from_scratch", epochs=20, batch_size=16)


def first_steps() -> Recipe:
    """Twenty steps at batch 2: shows that a store trains on any machine; `make real` runs it."""
    return Recipe(
        name="first_steps", steps=20, batch_size=2, lr_multipliers=CMT_FROZEN_A, checkpoint_every=20
    )


def tiny_from_scratch() -> Recipe:
    """Necks and head of the tiny preset on the synthetic set, in two minutes on two cores.

    From scratch, what takes longest is that queries learn to attend to where they are: the
    transformer and the position embeddings get larger rates than the rest.
    """
    return Recipe(
        name="tiny_from_scratch",
        steps=1200,
        batch_size=4,
        learning_rate=5e-4,
        lr_multipliers=(("transformer", 2.0), ("bev_embedding", 4.0), ("rv_embedding", 4.0)),
        clip_norm=5.0,
        peak_ratio=2.0,
        final_ratio=1e-2,
        rising_share=0.1,
        checkpoint_every=200,
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    make.__name__: make
    for make in (
        frozen_a,
        frozen_b,
        frozen_all,
        aqr_only,
        cmt,
        from_scratch,
        first_steps,
        tiny_from_scratch,
    )
}


def load_recipe(name: str) -> Recipe:
    """Return the recipe called `name`, or the one that `path/to/file.py:function` returns.

    Raises:
        ConfigError: if there is none.
    """
    return named_config(Recipe, name, RECIPES)
