"""How `tiny` is trained: first on keyframes without sweeps, which cost a quarter, then as it is."""

from dataclasses import dataclass, replace

from shared.data.sensor_drop import SensorDrop
from stage2_train.recipes.recipe import Recipe


@dataclass(frozen=True, kw_only=True, slots=True)
class Phase:
    """A part of the training.

    Args:
        recipe: how; its name is the phase's.
        sweeps: previous sweeps merged into a keyframe at most.
        variants: of each sensor, see `prepared_frames`.
        judge_every: steps between two judgements on held-out scenes.
    """

    recipe: Recipe
    sweeps: int
    variants: int
    judge_every: int


def keyframes() -> Phase:
    """Learn from keyframes alone."""
    recipe = Recipe(
        name="keyframes",
        sensor_drop=SensorDrop(lidar=0.2, cameras=0.2, single_camera=0.1),
        steps=6000,
        batch_size=4,
        learning_rate=1e-3,
        # At the full rate, Adam would move a reference by 6 cm in every step.
        lr_multipliers=(("reference_points", 0.1),),
        clip_norm=35.0,
        schedule="cosine",
        final_ratio=0.05,
        warmup_steps=300,
        ema_decay=0.998,
        precision="32-true",
        checkpoint_every=250,
        keep_last=1,
    )
    return Phase(recipe=recipe, sweeps=0, variants=8, judge_every=500)


def with_sweeps() -> Phase:
    """Get used to what the preset says: keyframes with ten sweeps."""
    recipe = replace(
        keyframes().recipe,
        name="with_sweeps",
        steps=2000,
        learning_rate=4e-4,
        warmup_steps=100,
        final_ratio=0.02,
        checkpoint_every=100,
    )
    return Phase(recipe=recipe, sweeps=10, variants=4, judge_every=500)


PHASES = (keyframes, with_sweeps)
