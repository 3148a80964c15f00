"""How far a run is, as its checkpoints keep it."""

import dataclasses
import math
from collections.abc import Mapping


@dataclasses.dataclass
class Progress:
    """How far a run is.

    Args:
        step: steps taken, skipped ones included.
        skipped: steps that updated nothing because a gradient overflowed in float16.
        skipped_in_a_row: how many of the latest steps were skipped.
        recent_losses: of the steps since the last checkpoint that is kept.
        lowest_loss: lowest mean of those so far.
        validated_at: step of the last validation, 0 before there is one.
        best_step: step of the best validation, 0 before there is one.
        best_scores: its scores, larger is better: what the recipe goes by, then the loss.
        since_best: validations since then.
    """

    step: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    recent_losses: list[float] = dataclasses.field(default_factory=list)
    lowest_loss: float = math.inf
    validated_at: int = 0
    best_step: int = 0
    best_scores: tuple[float, float] = (-math.inf, -math.inf)
    since_best: int = 0

    def note_scores(self, scores: Mapping[str, float | None], best_by: str) -> None:
        """Note how the detector of this step did; if nothing did better, it is the best.

        Args:
            scores: `loss`, `mAP` and `NDS`; a loss that is not finite is never the best.
            best_by: one of them. The loss decides where the metrics were not measured, and between
                equal ones. Or `mean_NDS`, which is the NDS where no conditions were validated.
        """
        loss = scores["loss"]
        metric = None if best_by == "loss" else scores.get(best_by, scores["NDS"])
        assert loss is not None
        reached = (-loss if metric is None else metric, -loss)
        self.validated_at = self.step
        if math.isfinite(loss) and reached > tuple(self.best_scores):
            self.best_step, self.best_scores, self.since_best = self.step, reached, 0
        else:
            self.since_best += 1
