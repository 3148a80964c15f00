"""A training run: its progress, what it saves, and when it stops."""

import dataclasses
import logging
import math
import time
from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import Any

from tqdm import tqdm

from shared.errors import InterruptedWorkError, TrainingError
from shared.model.detector import CmtDetector
from shared.process.interrupts import Interrupts, StuckError
from stage2_train.data.prefetch import MicroBatches
from stage2_train.freezing.freezing import eval_frozen
from stage2_train.run.run_folder import RunFolder
from stage2_train.run.run_progress import Progress
from stage2_train.run.step_clock import Lap
from stage2_train.run.training_log import TrainingLog, closed_at_end
from stage2_train.training.ema import ExponentialMovingAverage
from stage2_train.training.global_batch import GlobalBatch, gather_global_batch
from stage2_train.training.optimizer import load_optimizer
from stage2_train.training.queued_step import QueuedStep, diverged
from stage2_train.training.training_step import TrainingStep, explained_memory
from stage2_train.training.validation import Scores, Validation

log = logging.getLogger(__name__)

# Steps that float16 may skip in a row. The gradient scale starts at 65,536 and halves each time, so
# by then it is not the scale that makes gradients overflow.
SKIPPED_IN_A_ROW = 25


class Trainer:
    """A run and the folder that it resumes from.

    Args:
        training_step: takes a step.
        folder: of the run.
        about: entries of its checkpoints besides weights, optimizer and progress.

    Attributes:
        validation: says which step is best, and when the run stops early; without one, the lowest
            training loss is best.
    """

    def __init__(
        self, training_step: TrainingStep, folder: RunFolder, about: Mapping[str, Any]
    ) -> None:
        self.training_step = training_step
        self.fabric, self.recipe = training_step.fabric, training_step.recipe
        self.detector = training_step.raw_module.detector
        self.folder = folder
        self.about = about
        self.validation: Validation | None = None
        self.progress = Progress()
        decay = self.recipe.ema_decay
        self.ema = None if decay is None else ExponentialMovingAverage(self.detector, decay)
        self.training_log: TrainingLog | None = None  # only the first process has one
        self.losses: list[float] = []
        # A step not accounted for yet, and its samples.
        self._unread: tuple[QueuedStep, Lap, int] | None = None
        self.saved_at: int | None = None
        self._lost_loader = ""  # says that it was left behind, in a run that it held up

    def resume(self) -> None:
        """Restore the folder's checkpoint, if it has one."""
        saved = self.folder.load()
        if saved is None:
            return
        self.detector.load_state_dict(saved["state_dict"])
        load_optimizer(self.training_step.raw_optimizer, saved["optimizer"])
        if self.ema is not None:
            self.ema.load(saved["ema"])
        if self.training_step.scaler is not None:
            self.training_step.scaler.load_state_dict(saved["scaler"])
        self.progress = Progress(**saved["progress"])
        self.saved_at = self.progress.step
        self.training_step.proof.check_bytes()
        log.info("resuming %s at step %d", self.folder.path, self.progress.step)

    def run(self, batches: Iterator[MicroBatches], last: int) -> dict[str, float | None]:
        """Take steps until `last` are done in all; see `assembly.train_batches`."""
        if self.fabric.global_rank == 0:
            self.training_log = TrainingLog(self.folder, self.progress.step)
        self._train_mode()
        started = time.perf_counter()
        best: Scores = {}
        with closed_at_end(self.training_log), Interrupts() as interrupts:
            signum = self._take_steps(batches, last, interrupts)
            seconds = time.perf_counter() - started
            if self.saved_at != self.progress.step:
                self._save(is_kept=False)
            if self.validation is not None:
                seconds -= self.validation.seconds
                if not signum and self.is_over():
                    best, signum = self.validation.finish(self.evaluated, self.progress, interrupts)
        if signum:
            raise InterruptedWorkError(
                f"step {self.progress.step} of {last} is saved in {self.folder.path}"
                f"{self._lost_loader}; run the same command again to resume",
                signum,
            )
        return {
            "steps": self.progress.step,
            "first_loss": self.losses[0] if self.losses else None,
            "last_loss": self.losses[-1] if self.losses else None,
            "seconds_per_step": seconds / len(self.losses) if self.losses else None,
            **{f"best/{name}": value for name, value in best.items()},
        }

    @property
    def evaluated(self) -> CmtDetector:
        """The detector that is validated: the moving average, in a run that keeps one."""
        return self.detector if self.ema is None else self.ema.average

    def _train_mode(self) -> None:
        self.training_step.module.train()
        eval_frozen(self.detector, self.recipe.frozen)

    def is_over(self) -> bool:
        """Return whether the run has reached its last step, or stops early."""
        stops = self.validation is not None and self.validation.stops_early(self.progress)
        return stops or self.progress.step >= self.training_step.steps

    def _next(self, batches: Iterator[MicroBatches], interrupts: Interrupts) -> MicroBatches | None:
        """Return the next batches, or None after a signal if they do not come.

        Raises:
            InterruptedWorkError: if that happens to one of several processes: the others do not
                know, so that nothing can be saved together.
        """
        try:
            with interrupts.waiting():
                return next(batches)
        except StuckError as stuck:
            assert interrupts.signum is not None
            self._lost_loader = f" (the store was being read, and {stuck})"
            if self.fabric.world_size == 1:
                return None
            raise InterruptedWorkError(
                f"{stuck}: the store cannot be read. The run resumes from step "
                f"{self.saved_at or 0}; run the same command again",
                interrupts.signum,
            ) from stuck

    def _take_steps(
        self, batches: Iterator[MicroBatches], last: int, interrupts: Interrupts
    ) -> int:
        """Take steps; return the signal that ended them early, or 0."""
        clock, done = self.training_step.clock, self.progress.step
        hidden = None if self.training_log is not None else True
        with tqdm(total=last, initial=done, unit="step", disable=hidden) as bar:
            while True:
                if signum := self._validate(interrupts):
                    return signum
                clock.mark("save")
                if self.progress.step >= last or self.is_over():
                    return 0
                micro_batches = self._next(batches, interrupts)
                if micro_batches is None:
                    return interrupts.signum or 0
                clock.mark("data")
                global_batch = gather_global_batch(
                    self.fabric, micro_batches, self.progress.step, interrupts.signum or 0
                )
                if global_batch.signum:
                    return global_batch.signum
                self._advance(micro_batches, global_batch)
                bar.update()
                if self.losses:
                    bar.set_postfix(loss=f"{self.losses[-1]:.3f}")

    def _validate(self, interrupts: Interrupts) -> int:
        """Validate if this step is due, and save; return the signal that prevented it, or 0."""
        if self.validation is None or not self.validation.is_due(self.progress):
            return 0
        if self.saved_at != self.progress.step:
            self._save(is_kept=False)  # so that a kill costs no more than the validation
        scores, signum = self.validation.validate(self.evaluated, self.progress, interrupts)
        self._train_mode()
        if scores is None:
            return signum
        if self.training_log is not None:
            self.training_log.add_validation(self.progress.step, scores)
        self._save(is_kept=True)
        return 0

    def _advance(self, micro_batches: MicroBatches, global_batch: GlobalBatch) -> None:
        """Queue one step, account for what can be read, and save a checkpoint when one is due."""
        now = self.progress
        try:
            with explained_memory(now.step, len(micro_batches)):
                queued = self.training_step.take(micro_batches, global_batch, now.step)
        except TrainingError:
            self._account()  # the step before may have failed first
            raise
        now.step += 1
        if self.ema is not None:
            self.ema.update(self.detector, queued.was_skipped)
        self._account()
        samples = len(global_batch.box_counts)
        self._unread = queued, self.training_step.clock.lap(), samples
        if not self.training_step.reads_late:
            self._account()
        if self.validation is not None and self.validation.is_due(now):
            return  # it saves
        if now.step % self.recipe.checkpoint_every == 0 or now.step == self.training_step.steps:
            self._save(is_kept=True)

    def _account(self) -> None:
        """Read the result of the step that is still unread, if one is, and record it.

        Raises:
            TrainingError: if a loss or a gradient was not finite, or too many steps were skipped.
        """
        if self._unread is None:
            return
        (queued, lap, samples), self._unread = self._unread, None
        result = queued.read()
        now = self.progress
        now.skipped += result.was_skipped
        now.skipped_in_a_row = now.skipped_in_a_row + 1 if result.was_skipped else 0
        if math.isfinite(result.loss):  # that of a skipped step may not be
            now.recent_losses.append(result.loss)
        self.losses.append(result.loss)
        if now.skipped_in_a_row > SKIPPED_IN_A_ROW:
            reason = f"{now.skipped_in_a_row} steps in a row were skipped"
            raise diverged(queued.step, queued.tokens, reason)
        if self.training_log is not None:
            scalars = result.scalars | {"skipped_steps": now.skipped}
            timing = lap.timing(samples)
            self.training_log.add(queued.step + 1, scalars, timing)

    def _save(self, *, is_kept: bool) -> None:
        """Write log and checkpoint; no process continues before they are written.

        Raises:
            FrozenError: if something frozen has changed; nothing is written.
            TrainingError: if the last step has failed; nothing is written.
        """
        self._account()
        self.training_step.proof.check_bytes()
        now = self.progress
        is_best = False
        if is_kept and now.recent_losses:
            mean = fmean(now.recent_losses)
            is_best = mean < now.lowest_loss
            now.lowest_loss = min(mean, now.lowest_loss)
            now.recent_losses = []
        if self.validation is not None:
            is_best = is_kept and now.best_step == now.validated_at == now.step
        if self.training_log is not None:
            self.training_log.write()
            checkpoint = self._checkpoint()
            if is_kept:
                self.folder.save(checkpoint, is_best=is_best, keep_last=self.recipe.keep_last)
            else:
                self.folder.save_progress(checkpoint)
        self.saved_at = now.step
        self.fabric.barrier()

    def _checkpoint(self) -> dict[str, Any]:
        scaler = self.training_step.scaler
        return {
            **self.about,
            "state_dict": self.detector.state_dict(),
            "ema": None if self.ema is None else self.ema.state(),
            "optimizer": self.training_step.raw_optimizer.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "step": self.progress.step,
            "progress": dataclasses.asdict(self.progress),
            "recipe": dataclasses.asdict(self.recipe),
        }
