"""Training recipes: every hyper-parameter of a run, as functions that return a frozen dataclass.

A user's own recipe is a Python file with one such function; name it as `path/to/file.py:function`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from shared.errors import ConfigError
from shared.model.aqr.config import AqrConfig
from shared.named_config import named_config
from shared.sensor_drop import SensorDrop


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """One way to train.

    Args:
        name: for the record.
        aqr: adaptive query routing on top of CMT; None trains plain CMT.
        sensor_drop: sensors taken away from training samples; None leaves all of them.
        class_balanced: an epoch draws every class as often (CBGS), instead of every sample once.
        frozen: parts of the detector that are not trained, by the beginning of their names; a store
            that is cut after a part needs it here.
        steps, epochs: length of the run; exactly one of them is given.
        batch_size: samples per optimizer step, over all processes: a run on more devices is the
            same run.
        accumulate: passes in which each process takes its share of a batch; more need less memory.
        learning_rate, weight_decay: of AdamW, before multipliers.
        lr_multipliers: (key, factor) pairs; a parameter gets the factor of the longest key that its
            name contains, or 1.
        clip_norm: gradients are scaled down to this total norm.
        schedule: of the learning rate. "cyclic" is CMT's: from 1 up to `peak_ratio` over
            `rising_share` of the steps, then down to `final_ratio`. "cosine" rises on a straight
            line to 1 over `warmup_steps`, then falls to `final_ratio`; for what is new in the model
            and would be thrown about by a high first rate.
        peak_ratio, final_ratio, rising_share, warmup_steps: see `schedule`; learning rate over the
            base rate.
        ema_decay: share that an exponential average of the weights keeps at each step; such a run
            is evaluated and exported with its average. Worth its memory in long runs.
        seed: of weights, order and denoising noise.
        precision: as Lightning Fabric names it.
        checkpoint_every: steps between checkpoints.
        keep_last: checkpoints that stay; one more is that of the lowest loss.
    """

    name: str
    aqr: AqrConfig | None = None
    sensor_drop: SensorDrop | None = None
    class_balanced: bool = False
    frozen: tuple[str, ...] = ()
    steps: int | None = None
    epochs: int | None = None
    batch_size: int
    accumulate: int = 1
    learning_rate: float = 1.4e-4
    weight_decay: float = 0.01
    lr_multipliers: tuple[tuple[str, float], ...] = ()
    clip_norm: float = 35.0
    schedule: Literal["cyclic", "cosine"] = "cyclic"
    peak_ratio: float = 6.0
    final_ratio: float = 1e-4
    rising_share: float = 0.4
    warmup_steps: int = 500
    ema_decay: float | None = None
    seed: int = 0
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    checkpoint_every: int = 500
    keep_last: int = 3

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise ConfigError(f"recipe {self.name}: give either steps or epochs")
        for field in ("batch_size", "accumulate", "checkpoint_every", "keep_last"):
            if getattr(self, field) < 1:
                raise ConfigError(f"recipe {self.name}: {field} is at least 1")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ConfigError(f"recipe {self.name}: ema_decay lies between 0 and 1")


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

# The plan's multipliers; its key `query_embed` names no CMT parameter, what it means is the two
# MLPs that make the query embedding.
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

    20 epochs of class-balanced samples at batch 16 with sensors taken away, as CMT trains.
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
    """As frozen_a with twice the rate on the necks: when they have more to adapt to.

    For example to AQR's "modulation", which scales what they give, or to data that the checkpoint
    has not seen.
    """
    recipe = frozen_a()
    faster = tuple((key, 0.1 if key in NECKS else rate) for key, rate in recipe.lr_multipliers)
    return replace(recipe, name="frozen_b", lr_multipliers=faster)


def frozen_all() -> Recipe:
    """As frozen_a with the necks frozen, too: may use a store cut at the neck.

    When the necks' features are to stay what they are, or disk and time are short.
    """
    recipe = frozen_a()
    kept = tuple(pair for pair in recipe.lr_multipliers if pair[0] not in NECKS)
    return replace(recipe, name="frozen_all", frozen=NECKS, lr_multipliers=kept)


def aqr_only() -> Recipe:
    """Train AQR alone, on a detector that stays what it is: may use a store cut at the memory.

    The cheapest run, and the one that shows what routing adds and nothing else.
    """
    return replace(
        frozen_a(), name="aqr_only", frozen=(*NECKS, *CMT_HEAD), lr_multipliers=AQR_RATES
    )


def cmt() -> Recipe:
    """As frozen_a without AQR: the baseline to compare with, and for detectors of one sensor.

    These lose no sensors, having no other.
    """
    return replace(frozen_a(), name="cmt", aqr=None, sensor_drop=None, lr_multipliers=CMT_FROZEN_A)


def from_scratch() -> Recipe:
    """Necks and head from random weights at CMT's own rate: when there is no checkpoint."""
    return Recipe(name="from_scratch", epochs=20, batch_size=16)


def first_steps() -> Recipe:
    """Twenty steps at batch 2: shows that a store trains, on any machine; `make real` runs it."""
    return Recipe(
        name="first_steps", steps=20, batch_size=2, lr_multipliers=CMT_FROZEN_A, checkpoint_every=20
    )


def demo() -> Recipe:
    """The tiny preset on the synthetic set in two minutes on two cores; `make demo` runs it.

    From scratch, what takes longest is that queries learn to look where they are: the transformer
    and the position embeddings get larger rates than the rest.
    """
    return Recipe(
        name="demo",
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
    for make in (frozen_a, frozen_b, frozen_all, aqr_only, cmt, from_scratch, first_steps, demo)
}


def load_recipe(name: str) -> Recipe:
    """Return the recipe called `name`, or the one `path/to/file.py:function` defines.

    Raises:
        ConfigError: if there is none.
    """
    return named_config(Recipe, name, RECIPES)
