"""How far a run is, as its checkpoints keep it."""

import dataclasses
import math


@dataclasses.dataclass
class Progress:
    """How far a run is.

    Args:
        step: steps taken, skipped ones included.
        skipped: steps that updated nothing because a gradient overflowed in float16.
        skipped_in_a_row: how many of the latest steps were skipped.
        recent_losses: of the steps since the last checkpoint that is kept.
        lowest_loss: lowest mean of those so far.
    """

    step: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    recent_losses: list[float] = dataclasses.field(default_factory=list)
    lowest_loss: float = math.inf
