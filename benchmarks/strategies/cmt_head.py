"""What `benchmarks.strategies.convergence` starts from: CMT trained long enough to detect."""

from dataclasses import replace

from stage2_train.recipes import Recipe, demo


def cmt_head() -> Recipe:
    """The recipe demo at five times the length: for 320 synthetic samples in three views."""
    return replace(demo(), name="cmt_head", steps=6000, checkpoint_every=1000)
