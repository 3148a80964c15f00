"""The starting point of the convergence benchmark: CMT trained long enough to detect."""

from dataclasses import replace

from stage2_train.recipes.recipe import Recipe
from stage2_train.recipes.recipes import tiny_from_scratch


def cmt_head() -> Recipe:
    """tiny_from_scratch at five times its length, for 320 synthetic samples in three variants."""
    return replace(tiny_from_scratch(), name="cmt_head", steps=6000, checkpoint_every=1000)
