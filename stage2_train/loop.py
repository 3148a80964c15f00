"""The training loop: batches of cached features in, checkpoints and a log out."""

import dataclasses
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from tqdm import tqdm

from cache.reader import CachedFeatures
from shared.batch import Batch
from shared.config import Preset
from shared.config_json import to_json
from shared.digests import state_digest
from shared.errors import InterruptedWorkError, TrainingError
from shared.interrupts import Interrupts
from shared.model.denoising import DenoisingQueries, make_denoising_queries
from shared.model.detector import CmtDetector
from shared.model.fresh import fresh_detector
from shared.model.losses import detection_losses, total_loss
from stage2_train.backbones import require_backbones
from stage2_train.dataset import StoreDataset
from stage2_train.freezing import eval_frozen, freeze, require_trainable
from stage2_train.loader import BatchLoader
from stage2_train.optimizer import make_optimizer
from stage2_train.recipes import Recipe
from stage2_train.run_folder import RunFolder
from stage2_train.sampler import EpochSampler

log = logging.getLogger(__name__)


class Work:
    """One step's input.

    Not a dataclass on purpose: Fabric looks into those and would cast the float64 camera matrices.
    """

    def __init__(self, batch: Batch, queries: DenoisingQueries | None) -> None:
        self.batch = batch
        self.queries = queries


class LossStep(nn.Module):
    """Detector and losses as one module: one forward per step, whatever wraps it.

    Args:
        detector: what is trained.
        preset: its configuration.
    """

    def __init__(self, detector: CmtDetector, preset: Preset) -> None:
        super().__init__()
        self.detector = detector
        self.preset = preset

    def forward(self, work: Work) -> dict[str, Tensor]:
        """Return the loss terms of a batch under their official names."""
        outputs = self.detector(work.batch, work.queries)
        return detection_losses(
            outputs,
            work.batch.boxes_lidar,
            work.batch.labels,
            self.preset.head,
            denoising=work.queries,
        )


def train(
    store: CachedFeatures,
    recipe: Recipe,
    out: Path,
    *,
    checkpoint: Path | None = None,
    stop_after: int | None = None,
    workers: int = 0,
) -> dict[str, float | None]:
    """Train necks and head from a store, or go on with the run that `out` holds.

    Everything random (dropout, order, denoising noise) is a function of the recipe's seed and the
    step, so a resumed run continues as if it had never stopped.

    Args:
        store: a complete store.
        recipe: hyper-parameters.
        out: run folder.
        checkpoint: official CMT checkpoint to start from; without one, seeded random weights.
        stop_after: stop after this many steps in all, earlier than the recipe says.
        workers: loader threads.

    Returns:
        Steps in all; of the steps taken now, the first and last total loss and the seconds each
        took, None if there were none.

    Raises:
        CacheError: if the store is incomplete.
        CheckpointError: if the checkpoint does not fit the preset.
        ConfigError: if the recipe trains what the store has frozen, or freezes what is not there.
        IdentityError: if the checkpoint's backbones are not those the store was made with.
        TrainingError: if a loss is not finite.
        InterruptedWorkError: on Ctrl-C or SIGTERM, with the run's state saved.
    """
    store.require_complete()
    require_trainable(recipe, store)
    if checkpoint is not None:
        require_backbones(checkpoint, store)
    detector = fresh_detector(store.preset, store.cut, seed=recipe.seed, checkpoint=checkpoint)
    freeze(detector, recipe.frozen)
    folder = RunFolder(out)
    folder.start(
        {
            "recipe": dataclasses.asdict(recipe),
            "preset": to_json(store.preset),
            "store": store.identity_digest,
            "starting weights": state_digest(detector.state_dict()),
        }
    )
    fabric = Fabric(accelerator="auto", devices=1, precision=recipe.precision)
    step_module = LossStep(detector, store.preset)
    dataset = StoreDataset(store, store.tokens)
    per_epoch = EpochSampler(len(dataset), recipe.batch_size, recipe.seed).steps_per_epoch
    steps = recipe.steps if recipe.steps is not None else (recipe.epochs or 0) * per_epoch
    optimizer, schedule = make_optimizer(detector, recipe, steps)
    run = TrainingRun(
        fabric=fabric,
        folder=folder,
        recipe=recipe,
        module=step_module,
        optimizer=optimizer,
        schedule=schedule,
        about={
            "preset": to_json(store.preset),
            "features": store.features_digest,
            "backbones": store.identity["weights"],
            "started_from": None if checkpoint is None else str(checkpoint.resolve()),
        },
    )
    run.resume()
    last = steps if stop_after is None else min(steps, stop_after)
    log.info(
        "training %s with recipe %s: %d samples, steps %d to %d, batch %d, %d trainable parameters",
        store.preset.name,
        recipe.name,
        len(dataset),
        run.step,
        last,
        recipe.batch_size,
        sum(one.numel() for one in step_module.parameters() if one.requires_grad),
    )
    sampler = EpochSampler(
        len(dataset), recipe.batch_size, recipe.seed, views=store.views, first_step=run.step
    )
    return run.go(iter(BatchLoader(dataset, sampler, workers)), last)


class TrainingRun:
    """Model, optimizer and position of one run; made by `train`."""

    def __init__(
        self,
        *,
        fabric: Fabric,
        folder: RunFolder,
        recipe: Recipe,
        module: LossStep,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LambdaLR,
        about: dict[str, Any],
    ) -> None:
        self.fabric = fabric
        self.folder = folder
        self.recipe = recipe
        self.raw_module = module
        self.raw_optimizer = optimizer
        self.schedule = schedule
        self.about = about
        self.step = 0
        self.rows: list[dict[str, float]] = []
        self.module, self.optimizer = fabric.setup(module, optimizer)

    def resume(self) -> None:
        """Go to where the folder's checkpoint is, if it has one."""
        saved = self.folder.load()
        if saved is None:
            return
        self.raw_module.detector.load_state_dict(saved["state_dict"])
        self.raw_optimizer.load_state_dict(saved["optimizer"])
        self.schedule.load_state_dict(saved["schedule"])
        self.step = saved["step"]
        log.info("resuming %s at step %d", self.folder.path, self.step)

    def save(self) -> None:
        """Write the log, then the checkpoint: a resumed run drops rows it has not reached."""
        if self.rows:
            self.folder.log(self.rows, after_step=int(self.rows[0]["step"]) - 1)
            self.rows = []
        self.folder.save(
            {
                **self.about,
                "state_dict": self.raw_module.detector.state_dict(),
                "optimizer": self.raw_optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "step": self.step,
                "recipe": dataclasses.asdict(self.recipe),
            }
        )

    def go(self, batches: Iterator[Batch], last: int) -> dict[str, float | None]:
        """Take steps until `last` are done in all; see `train`."""
        losses: list[float] = []
        started = time.perf_counter()
        bar = tqdm(total=last, initial=self.step, unit="step", disable=None)
        with Interrupts() as interrupts, bar:
            while self.step < last and interrupts.signum is None:
                losses.append(self.take_step(next(batches)))
                bar.update()
                bar.set_postfix(loss=f"{losses[-1]:.3f}")
                if self.step % self.recipe.checkpoint_every == 0:
                    self.save()
        seconds = time.perf_counter() - started
        self.save()
        if interrupts.signum is not None and self.step < last:
            raise InterruptedWorkError(
                f"step {self.step} of {last} is saved in {self.folder.path}; run the same command "
                "again to go on",
                interrupts.signum,
            )
        return {
            "steps": self.step,
            "first_loss": losses[0] if losses else None,
            "last_loss": losses[-1] if losses else None,
            "seconds_per_step": seconds / len(losses) if losses else None,
        }

    def take_step(self, batch: Batch) -> float:
        """Forward, backward, clip, update; return the total loss.

        Raises:
            TrainingError: if the loss or a gradient is not finite; nothing is updated.
        """
        step_seed = self.recipe.seed * 1_000_003 + self.step
        torch.manual_seed(step_seed)  # dropout
        batch = batch.to(self.fabric.device)
        preset = self.raw_module.preset
        queries = make_denoising_queries(
            batch.boxes_lidar,
            batch.labels,
            preset.head,
            preset.grid.point_range_m,
            generator=torch.Generator().manual_seed(step_seed),
        )
        self.module.train()
        eval_frozen(self.raw_module.detector, self.recipe.frozen)
        try:
            terms = self.module(Work(batch, queries))
        except FloatingPointError as error:
            raise self.diverged(batch, str(error)) from error
        loss = total_loss(terms)
        if not torch.isfinite(loss):
            bad = [name for name, value in terms.items() if not torch.isfinite(value)]
            raise self.diverged(batch, f"{', '.join(bad)} is not finite")
        self.optimizer.zero_grad()
        self.fabric.backward(loss)
        norm = self.fabric.clip_gradients(
            self.module, self.optimizer, max_norm=self.recipe.clip_norm, error_if_nonfinite=False
        )
        # In float16 the gradient scaler skips such a step and lowers its scale.
        if self.recipe.precision != "16-mixed" and not torch.isfinite(torch.as_tensor(norm)):
            raise self.diverged(batch, "a gradient is not finite")
        self.optimizer.step()
        self.schedule.step()
        self.step += 1
        row = {name: float(value.detach()) for name, value in terms.items()}
        rate = float(self.raw_optimizer.param_groups[-1]["lr"])
        total = float(loss.detach())
        self.rows.append(
            {"step": self.step, "loss": total, "grad_norm": float(norm), "lr": rate, **row}
        )
        return total

    def diverged(self, batch: Batch, reason: str) -> TrainingError:
        """Return the error of a step whose loss cannot be used."""
        return TrainingError(
            f"step {self.step}, samples {', '.join(batch.tokens)}: {reason}. The last checkpoint "
            f"in {self.folder.path} is from before it; lower the learning rate, or check the store "
            "with `feature-cache verify`"
        )
