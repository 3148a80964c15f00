"""Validation inside a run: when it is due, its work divided, which step is best, when to stop.

What is measured, and on which samples, is known to a `Validator`, which the command hands in.
"""

import contextlib
import copy
import json
import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from shared.errors import InterruptedWorkError
from shared.model.detector import CmtDetector
from shared.process.interrupts import Interrupts, StuckError
from stage2_train.recipes.recipe import Recipe
from stage2_train.run.run_checkpoint import read_run_checkpoint, trained_weights
from stage2_train.run.run_files import BEST_SCORES
from stage2_train.run.run_folder import BEST, RunFolder
from stage2_train.run.run_progress import Progress
from stage2_train.training.distributed import (
    copy_buffers_of_first,
    from_first_process,
    gathered_in_first,
    most_of_all,
)
from stage2_train.training.training_step import TrainingStep

log = logging.getLogger(__name__)

FOLDER = "validation"  # in the run folder: what the best detector makes of all samples

Scores = dict[str, float | None]


class Validator(Protocol):
    """Measures detectors; `is_whole` asks for all samples, otherwise for those of the curve."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """What the numbers are made from; a run is not resumed with a different one."""

    @property
    def statement(self) -> str:
        """Say which samples are measured, and how."""

    def prepare(self) -> None:
        """Get ready to judge; called in the first process only."""

    def batches(self, *, is_whole: bool) -> int:
        """Return the number of batches."""

    def measure(
        self, detector: CmtDetector, *, is_whole: bool, process: int, processes: int
    ) -> Iterator[Any]:
        """Yield what the detector makes of every batch of this process."""

    def judge(self, measured: list[Any], *, is_whole: bool, out: Path | None) -> Scores:
        """Return `samples`, `loss`, `mAP` and `NDS`, and more under conditions; all may be None.

        Args:
            measured: what all processes have measured; may be emptied, to free memory.
            is_whole: as above.
            out: folder for results and metrics; None keeps nothing.
        """


class Validation:
    """The validations of a run.

    Args:
        validator: see there.
        training_step: of the run.
        folder: of the run.
        steps_per_epoch: see `validation_interval`.
    """

    def __init__(
        self,
        validator: Validator,
        training_step: TrainingStep,
        folder: RunFolder,
        steps_per_epoch: int,
    ) -> None:
        self.validator, self.folder = validator, folder
        self.fabric, self.recipe = training_step.fabric, training_step.recipe
        self.steps = training_step.steps  # of the run, after which it is always validated
        self.every = validation_interval(self.recipe, steps_per_epoch)
        self.seconds = 0.0  # spent on validations in this process

    @property
    def statement(self) -> str:
        """Say when what is validated, for the log."""
        patience = self.recipe.patience
        stops = "" if patience is None else f", stopping after {patience} without a better one"
        return (
            f"validating every {self.every} steps: {self.validator.statement}; {BEST} by "
            f"{self.recipe.best_by} where that is measured{stops}"
        )

    def is_due(self, progress: Progress) -> bool:
        """Return whether the step that the run is at remains to be validated."""
        step = progress.step
        is_wanted = step > 0 and (step % self.every == 0 or step == self.steps)
        return is_wanted and progress.validated_at != step

    def stops_early(self, progress: Progress) -> bool:
        """Return whether the last validations have brought nothing better."""
        patience = self.recipe.patience
        return patience is not None and progress.since_best >= patience

    def validate(
        self, detector: CmtDetector, progress: Progress, interrupts: Interrupts
    ) -> tuple[Scores | None, int]:
        """Score a detector on the samples of the curve, and note in `progress` how it did.

        Args:
            detector: left in eval mode.
            progress: of the run, saved at this step.
            interrupts: a signal ends the validation; the resumed run repeats it.

        Returns:
            The scores with the `seconds` they took, or None and the signal.
        """
        scores, signum = self._scores(detector, progress.step, interrupts, is_whole=False)
        if scores is not None:
            progress.note_scores(scores, self.recipe.best_by)
            ending = "; stopping early" if self.stops_early(progress) else ""
            best = f"best so far: step {progress.best_step}{ending}"
            self._log(f"step {progress.step}: {_in_words(scores)}; {best}")
        return scores, signum

    def finish(
        self, detector: CmtDetector, progress: Progress, interrupts: Interrupts
    ) -> tuple[dict[str, float | None], int]:
        """Score the run's best detector on all samples, unless that has been done.

        Args:
            detector: like that of the run; a copy of it gets the best weights.
            progress: of the run, which is over.
            interrupts: as in `validate`.

        Returns:
            The scores with `step` and `seconds`, and the signal that prevented them.
        """
        if not progress.best_step:
            log.warning("no validation had a finite loss, so there is no %s to judge", BEST)
            return {}, 0
        file = self.folder.path / BEST_SCORES
        done = from_first_process(self.fabric, lambda: _scores_in(file))
        if done is not None and done["step"] == progress.best_step:
            return done, 0
        best = read_run_checkpoint(self.folder.path / BEST)
        detector = copy.deepcopy(detector)
        detector.load_state_dict(trained_weights(best))
        scores, signum = self._scores(detector, progress.step, interrupts, is_whole=True)
        if scores is None:
            return {}, signum
        scores = {"step": best["step"], **scores}
        out = self.folder.path / FOLDER
        self._log(f"{BEST} of step {best['step']}: {_in_words(scores)}; written to {out}")
        if self.fabric.global_rank == 0:
            self.folder.write(BEST_SCORES, json.dumps(scores, indent=2))
        return scores, 0

    def _log(self, text: str) -> None:
        if self.fabric.global_rank == 0:
            log.info("%s", text)

    def _scores(
        self, detector: CmtDetector, step: int, interrupts: Interrupts, *, is_whole: bool
    ) -> tuple[Scores | None, int]:
        """Measure in all processes, judge in the first; see `validate`."""
        started = time.perf_counter()
        detector.eval()
        copy_buffers_of_first(self.fabric, detector)
        measured = self._measured(detector, step, interrupts, is_whole)
        out = self.folder.path / FOLDER if is_whole else None
        scores: Scores | None = None
        if measured is not None:
            everything = gathered_in_first(self.fabric, measured)
            del measured  # or nothing of it would be freed while it is judged

            def judged() -> Scores | None:
                with contextlib.suppress(StuckError), interrupts.waiting():
                    return self.validator.judge(everything, is_whole=is_whole, out=out)
                return None

            scores = from_first_process(self.fabric, judged)
        if scores is None:
            return None, most_of_all(self.fabric, interrupts.signum or 0)
        seconds = time.perf_counter() - started
        self.seconds += seconds
        return {**scores, "seconds": round(seconds, 2)}, 0

    def _measured(
        self, detector: CmtDetector, step: int, interrupts: Interrupts, is_whole: bool
    ) -> list[Any] | None:
        """Return what this process has measured, None after a signal to any of them.

        Raises:
            InterruptedWorkError: if one of several processes waits for the store after a signal:
                the others do not know, so that they cannot go on together.
        """
        rank, processes = self.fabric.global_rank, self.fabric.world_size
        parts = self.validator.measure(
            detector, is_whole=is_whole, process=rank, processes=processes
        )
        batches = self.validator.batches(is_whole=is_whole)
        measured: list[Any] = []
        hidden = None if rank == 0 else True
        with tqdm(total=batches, desc=FOLDER, unit="batch", leave=False, disable=hidden) as bar:
            for first in range(0, batches, processes):
                if most_of_all(self.fabric, interrupts.signum or 0):
                    return None
                try:
                    with self.fabric.autocast(), interrupts.waiting():
                        measured += [next(parts)] if first + rank < batches else []
                except StuckError as stuck:
                    if processes == 1:
                        return None
                    assert interrupts.signum is not None
                    raise InterruptedWorkError(
                        f"{stuck}: the validation store cannot be read. The run resumes from step "
                        f"{step}; run the same command again",
                        interrupts.signum,
                    ) from stuck
                bar.update(min(processes, batches - first))
        return measured


def validation_interval(recipe: Recipe, steps_per_epoch: int) -> int:
    """Return the steps from one validation to the next.

    What the recipe says; else an epoch, in a recipe that counts epochs, or `checkpoint_every`.
    """
    if recipe.validate_steps is not None:
        return recipe.validate_steps
    if recipe.validate_epochs is None and recipe.epochs is None:
        return recipe.checkpoint_every
    return (recipe.validate_epochs or 1) * steps_per_epoch


def _in_words(scores: Mapping[str, float | None]) -> str:
    names = ("loss", "mAP", "NDS", "mean_NDS")
    values = {name: scores[name] for name in names if scores.get(name) is not None}
    numbers = ", ".join(f"{name} {value:.4f}" for name, value in values.items())
    return f"{numbers} ({scores['samples']} samples, {scores['seconds']} s)"


def _scores_in(file: Path) -> dict[str, float | None] | None:
    """Return what an earlier call has written, None if that is missing or damaged."""
    try:
        scores: dict[str, float | None] = json.loads(file.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return scores if isinstance(scores, dict) and "step" in scores else None
