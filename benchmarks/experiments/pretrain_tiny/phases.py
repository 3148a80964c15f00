"""How `tiny` is trained: first on keyframes without sweeps, which cost half, then as it is.

The numbers of steps are what two cores had time for.
"""

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
        shields_backbones: see `trained_backbones.WholeDetector`.
        judge_every: steps between two judgements on held-out scenes.
        ends_at: step at which the next phase begins, if not at the end of the schedule.
    """

    recipe: Recipe
    sweeps: int
    variants: int
    shields_backbones: bool = False
    judge_every: int
    ends_at: int | None = None

    @property
    def steps(self) -> int:
        """Steps until the next phase begins."""
        steps = self.ends_at or self.recipe.steps
        assert steps is not None
        return steps


def shielded() -> Phase:
    """Learn from keyframes alone, the backbones from their dense loss alone."""
    recipe = Recipe(
        name="shielded",
        sensor_drop=SensorDrop(lidar=0.2, cameras=0.2, single_camera=0.1),
        steps=3000,
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
    return Phase(
        recipe=recipe, sweeps=0, variants=8, shields_backbones=True, judge_every=500, ends_at=2000
    )


def with_sweeps() -> Phase:
    """Learn from what the preset says, keyframes with ten sweeps, all from everything."""
    recipe = replace(
        shielded().recipe,
        name="with_sweeps",
        steps=2000,
        learning_rate=7e-4,
        warmup_steps=50,
        final_ratio=0.02,
        checkpoint_every=100,
    )
    return Phase(recipe=recipe, sweeps=10, variants=4, judge_every=400)


PHASES = (shielded, with_sweeps)
