"""One run of training: where it is, what it saves, and when it stops."""

import dataclasses
import logging
import math
import time
from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import Any

from tqdm import tqdm

from shared.errors import InterruptedWorkError
from shared.process.interrupts import Interrupts
from stage2_train.data.prefetch import Share
from stage2_train.freezing.freezing import eval_frozen
from stage2_train.run.run_folder import RunFolder
from stage2_train.run.training_log import TrainingLog
from stage2_train.training.ema import AveragedWeights
from stage2_train.training.global_batch import GlobalBatch, agree
from stage2_train.training.training_step import TrainingStep, diverged

log = logging.getLogger(__name__)

# Steps that float16 may skip in a row. The scale of its gradients halves each time and began at
# 65,536, so by then it is not the scale that makes them overflow.
SKIPPED_IN_A_ROW = 25


@dataclasses.dataclass
class Progress:
    """Where a run is.

    Args:
        step: steps taken, skipped ones among them.
        skipped: steps that updated nothing because a gradient overflowed in float16.
        skipped_in_a_row: the latest of those.
        recent_losses: of the steps since a checkpoint was kept.
        lowest_loss: lowest mean of those so far.
    """

    step: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    recent_losses: list[float] = dataclasses.field(default_factory=list)
    lowest_loss: float = math.inf


class Trainer:
    """A run and the folder that it can go on from.

    Args:
        step: how a step is taken.
        folder: of the run.
        about: what its checkpoints say beside what `save` knows.
    """

    def __init__(self, step: TrainingStep, folder: RunFolder, about: Mapping[str, Any]) -> None:
        self.one_step = step
        self.fabric, self.recipe = step.fabric, step.recipe
        self.detector = step.raw_module.detector
        self.folder = folder
        self.about = about
        self.progress = Progress()
        decay = self.recipe.ema_decay
        self.averaged = None if decay is None else AveragedWeights(self.detector, decay)
        self.notes: TrainingLog | None = None  # only the first process has one
        self.losses: list[float] = []
        self.saved_at: int | None = None

    def resume(self) -> None:
        """Go to where the folder's checkpoint is, if it has one."""
        saved = self.folder.load()
        if saved is None:
            return
        self.detector.load_state_dict(saved["state_dict"])
        self.one_step.raw_optimizer.load_state_dict(saved["optimizer"])
        if self.averaged is not None:
            self.averaged.load(saved["ema"])
        if self.one_step.scaler is not None:
            self.one_step.scaler.load_state_dict(saved["scaler"])
        self.progress = Progress(**saved["progress"])
        self.saved_at = self.progress.step
        self.one_step.proof.check_bytes()
        log.info("resuming %s at step %d", self.folder.path, self.progress.step)

    def go(self, shares: Iterator[Share], last: int) -> dict[str, float | None]:
        """Take steps until `last` are done in all; see `loop.train`."""
        if self.fabric.global_rank == 0:
            self.notes = TrainingLog(self.folder, self.progress.step)
        self.one_step.module.train()
        eval_frozen(self.detector, self.recipe.frozen)
        started = time.perf_counter()
        try:
            with Interrupts() as interrupts:
                signum = self._steps(shares, last, interrupts)
                seconds = time.perf_counter() - started
                if self.saved_at != self.progress.step:
                    self._save(is_kept=False)
        finally:
            if self.notes is not None:
                self.notes.close()
        if signum:
            raise InterruptedWorkError(
                f"step {self.progress.step} of {last} is saved in {self.folder.path}; run the same "
                "command again to go on",
                signum,
            )
        return {
            "steps": self.progress.step,
            "first_loss": self.losses[0] if self.losses else None,
            "last_loss": self.losses[-1] if self.losses else None,
            "seconds_per_step": seconds / len(self.losses) if self.losses else None,
        }

    def _steps(self, shares: Iterator[Share], last: int, interrupts: Interrupts) -> int:
        """Take steps; return the signal that ended them early, or 0."""
        clock, done = self.one_step.clock, self.progress.step
        hidden = None if self.notes is not None else True
        clock.mark("save")
        with tqdm(total=last, initial=done, unit="step", disable=hidden) as bar:
            while self.progress.step < last:
                share = next(shares)
                clock.mark("data")
                whole = agree(self.fabric, share, self.progress.step, interrupts.signum or 0)
                if whole.signum:
                    return whole.signum
                self._advance(share, whole)
                clock.mark("save")
                bar.update()
                bar.set_postfix(loss=f"{self.losses[-1]:.3f}")
        return 0

    def _advance(self, share: Share, whole: GlobalBatch) -> None:
        """Take one step, account for it, and keep a checkpoint where one is due."""
        result = self.one_step.take(share, whole, self.progress.step)
        now = self.progress
        now.step += 1
        now.skipped += result.was_skipped
        now.skipped_in_a_row = now.skipped_in_a_row + 1 if result.was_skipped else 0
        now.recent_losses.append(result.loss)
        self.losses.append(result.loss)
        if now.skipped_in_a_row > SKIPPED_IN_A_ROW:
            raise diverged(
                now.step - 1, share, f"{now.skipped_in_a_row} steps in a row were skipped"
            )
        if self.averaged is not None and not result.was_skipped:
            self.averaged.update(self.detector)
        if self.notes is not None:
            scalars = result.scalars | {"skipped_steps": now.skipped}
            self.notes.add(now.step, scalars, self._timing(len(whole.box_counts)))
        if now.step % self.recipe.checkpoint_every == 0 or now.step == self.one_step.steps:
            self._save(is_kept=True)

    def _timing(self, samples: int) -> dict[str, float]:
        """Return the seconds of the latest step's pieces, and what they amount to."""
        pieces = self.one_step.clock.seconds()
        pieces.pop("save", None)
        total = sum(pieces.values())
        return {
            "samples_per_second": samples / total,
            "share_waiting_for_data": pieces["data"] / total,
            **{f"seconds/{name}": value for name, value in pieces.items()},
        }

    def _save(self, *, is_kept: bool) -> None:
        """Write log and checkpoint; no process goes on before they are written.

        Raises:
            FrozenError: if something frozen has changed; nothing is written.
        """
        self.one_step.proof.check_bytes()
        now = self.progress
        is_best = False
        if is_kept and now.recent_losses:
            mean = fmean(now.recent_losses)
            is_best = mean < now.lowest_loss
            now.lowest_loss = min(mean, now.lowest_loss)
            now.recent_losses = []
        if self.notes is not None:
            self.notes.write()
            checkpoint = self._checkpoint()
            if is_kept:
                self.folder.save(checkpoint, is_best=is_best, keep_last=self.recipe.keep_last)
            else:
                self.folder.save_progress(checkpoint)
        self.saved_at = now.step
        self.fabric.barrier()

    def _checkpoint(self) -> dict[str, Any]:
        scaler = self.one_step.scaler
        return {
            **self.about,
            "state_dict": self.detector.state_dict(),
            "ema": None if self.averaged is None else self.averaged.state(),
            "optimizer": self.one_step.raw_optimizer.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "step": self.progress.step,
            "progress": dataclasses.asdict(self.progress),
            "recipe": dataclasses.asdict(self.recipe),
        }
