"""The three recipes that are compared: the same steps and rates, from the same checkpoint."""

from dataclasses import replace

from stage2_train.recipes.recipe import Recipe
from stage2_train.recipes.recipes import CMT_FROZEN_A, frozen_a

STEPS = 150
# Half of the samples are under a condition: a severity of every family, the others stay unknown.
CONDITIONS = (("beams-4-even", 1 / 6), ("cameras-40", 1 / 6), ("dark-3", 1 / 6))


def aqr_clean() -> Recipe:
    """AQR on clean samples; no sensor is left out, so that it never sees a bad one."""
    return replace(
        frozen_a(),
        name="aqr_clean",
        sensor_drop=None,
        class_balanced=False,
        epochs=None,
        steps=STEPS,
        batch_size=4,
        checkpoint_every=STEPS,
        keep_last=1,
    )


def aqr_conditions() -> Recipe:
    """The same under conditions."""
    return replace(aqr_clean(), name="aqr_conditions", conditions=CONDITIONS)


def cmt_conditions() -> Recipe:
    """The same without AQR."""
    return replace(aqr_conditions(), name="cmt_conditions", aqr=None, lr_multipliers=CMT_FROZEN_A)


COMPARED = {make.__name__: make for make in (aqr_conditions, cmt_conditions, aqr_clean)}
