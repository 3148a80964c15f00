"""What `benchmarks.experiments.strategies.convergence` starts from: CMT trained long enough to detect."""

from dataclasses import replace

from stage2_train.recipes.recipe import Recipe
from stage2_train.recipes.recipes import demo


def cmt_head() -> Recipe:
    """The recipe demo at five times the length: for 320 synthetic samples in three variants."""
    return replace(demo(), name="cmt_head", steps=6000, checkpoint_every=1000)
