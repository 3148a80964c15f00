"""Learning rate over the steps of a run, relative to the recipe's: a function of the step only.

So nothing has to be saved, and a resumed run has the rates of an undisturbed one.
"""

import math

from stage2_train.recipes.recipe import Recipe


def rate_ratio(step: int, steps: int, recipe: Recipe) -> float:
    """Return the learning rate of a step, counted from 0, relative to the recipe's."""
    if recipe.schedule == "cosine":
        return cosine_ratio(step, steps, recipe)
    return cyclic_ratio(step, steps, recipe)


def cyclic_ratio(step: int, steps: int, recipe: Recipe) -> float:
    """Return CMT's ratio: a cosine up to the peak, then a cosine down to the end.

    Source: mmcv's CyclicLrUpdaterHook, one cycle, cosine annealing.
    """
    rising = max(1, int(recipe.rising_share * steps))
    if step < rising:
        start, end, share = 1.0, recipe.peak_ratio, step / rising
    else:
        start, end = recipe.peak_ratio, recipe.final_ratio
        share = min(1.0, (step - rising) / max(1, steps - rising))
    return _on_cosine(start, end, share)


def cosine_ratio(step: int, steps: int, recipe: Recipe) -> float:
    """Return a linear rise to 1 over the warm-up, then a cosine down to the end."""
    warm = min(recipe.warmup_steps, steps)
    if step < warm:
        return (step + 1) / warm
    return _on_cosine(1.0, recipe.final_ratio, min(1.0, (step - warm) / max(1, steps - warm)))


def _on_cosine(start: float, end: float, share: float) -> float:
    return end + 0.5 * (start - end) * (math.cos(math.pi * share) + 1)
