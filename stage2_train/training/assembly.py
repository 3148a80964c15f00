"""Assembles a run from batches: all is checked and built here, then `Trainer` takes the steps."""

import dataclasses
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from shared.config.config_json import to_json
from shared.digests import state_digest
from shared.errors import ConfigError
from shared.model.detector import CmtDetector
from shared.process.memory.freed_memory import keep_freed_memory
from shared.wording import counted
from stage2_train.data.prefetch import prefetch_to_device
from stage2_train.data.sampler import EpochSampler, MicroBatchSampler
from stage2_train.data.training_batches import TrainingBatches
from stage2_train.freezing.freeze_report import freeze_report, freeze_report_as_text
from stage2_train.recipes.recipe import Recipe
from stage2_train.run.code_record import record_code
from stage2_train.run.run_files import BEST_SCORES, OVERRIDES
from stage2_train.run.run_folder import RunFolder
from stage2_train.training.distributed import (
    from_first_process,
    launch_fabric,
    locked_for_all,
    resolved_precision,
)
from stage2_train.training.loss_step import LossStep
from stage2_train.training.optimizer import make_optimizer
from stage2_train.training.trainer import Trainer
from stage2_train.training.training_step import TrainingStep
from stage2_train.training.validation import Validation, Validator

log = logging.getLogger(__name__)

FREEZING = "freezing.json"
WHOLE_STORE: Mapping[str, Any] = {"subset": None, OVERRIDES: []}


def train_batches(
    batches: TrainingBatches,
    detector: CmtDetector,
    recipe: Recipe,
    out: Path,
    *,
    samples: str,
    origin: Mapping[str, Any],
    record: Mapping[str, Any] = WHOLE_STORE,
    validator: Validator | None = None,
    stop_after: int | None = None,
    devices: int = 1,
    nodes: int = 1,
) -> dict[str, float | None]:
    """Train a detector on batches, or resume the run in `out`.

    Everything random (dropout, order, denoising noise) is a function of the recipe's seed and the
    step, so a resumed run continues as if it had never stopped. On several devices it is the same
    run, except for what `global_batch` names.

    Args:
        batches: of the whole run.
        detector: with its first weights; what the recipe freezes is frozen.
        recipe: hyper-parameters.
        out: run folder.
        samples: digest of what the batches are made from; a run is not resumed with different ones.
        origin: what checkpoints say of where features and weights come from.
        record: what config.json says besides, under "subset", "overrides" and "conditions".
        validator: scores the detector as often as the recipe says.
        stop_after: stop after this many steps in all, earlier than the recipe says.
        devices: on each node; torchrun's own numbers override both.
        nodes: of the run.

    Returns:
        Steps in all; of the steps taken now, the first and last total loss and the seconds each
        took, None if there were none. With a validator, at the end of the run, also the scores of
        the best detector.

    Raises:
        DatasetError: if the validator cannot judge.
        ConfigError: if the recipe stops early and there is no validator, if `out` holds a
            different run or is in use by another process, or if the recipe's batches cannot be
            divided evenly among so many devices.
        CheckpointError: if the run in `out` has a damaged checkpoint.
        FrozenError: if something frozen changes or would be trained.
        TrainingError: if a loss is not finite, or the disk is full.
        InterruptedWorkError: on Ctrl-C or SIGTERM, with the run's state saved.
    """
    if recipe.patience is not None and validator is None:
        raise ConfigError(
            f"recipe {recipe.name} stops after {recipe.patience} validations without a better one "
            "(patience), but nothing is validated: name a store with --val, or set patience to None"
        )
    fabric, scaler = launch_fabric(recipe, devices=devices, nodes=nodes)
    if fabric.device.type == "cpu":
        keep_freed_memory()
    folder = RunFolder(out)
    with locked_for_all(folder, fabric):
        if validator is not None:
            from_first_process(fabric, validator.prepare)
        config = {**_config(detector, recipe, samples, validator), **record}
        folder.start(config, writes=fabric.global_rank == 0)
        order = batches.order()
        trainer = _trainer(fabric, scaler, detector, recipe, folder, order.steps_per_epoch, origin)
        if validator is not None:
            trainer.validation = Validation(
                validator, trainer.training_step, folder, order.steps_per_epoch
            )
        trainer.resume()
        order.first_step = trainer.progress.step
        own = MicroBatchSampler(
            order,
            order.batch_size,
            process=fabric.global_rank,
            processes=fabric.world_size,
            passes=recipe.accumulate,
        )
        steps = trainer.training_step.steps
        last = steps if stop_after is None else min(steps, stop_after)
        if fabric.global_rank == 0:
            if not _is_done(trainer, last):
                record_code(folder, trainer.progress.step)
            _announce(trainer, order, last)
        loaded = batches.load(own)
        return trainer.run(prefetch_to_device(loaded, recipe.accumulate, fabric.device), last)


def _trainer(
    fabric: Fabric,
    scaler: torch.amp.GradScaler | None,
    detector: CmtDetector,
    recipe: Recipe,
    folder: RunFolder,
    steps_per_epoch: int,
    origin: Mapping[str, Any],
) -> Trainer:
    """Put together what takes the steps; see `train_batches`."""
    reads_late = reads_results_late(fabric.device)
    step = TrainingStep(
        fabric=fabric,
        recipe=recipe,
        module=LossStep(
            detector,
            skips_overflow=scaler is not None,
            conditions=[name for name, _ in recipe.conditions],
        ),
        optimizer=make_optimizer(detector, recipe, is_fused=reads_late or scaler is not None),
        steps=recipe.steps or (recipe.epochs or 0) * steps_per_epoch,
        scaler=scaler,
        reads_late=reads_late,
    )
    about = {
        "preset": to_json(detector.preset),
        "aqr": None if recipe.aqr is None else to_json(recipe.aqr),
        "precision": resolved_precision(recipe),
        **origin,
    }
    return Trainer(step, folder, about)


def reads_results_late(device: torch.device) -> bool:
    """Return whether a step's losses are read only when the next one is queued.

    A CPU has nothing to wait for, and stops before it updates with what is not finite.
    """
    return device.type == "cuda"


def _config(
    detector: CmtDetector, recipe: Recipe, samples: str, validator: Validator | None
) -> dict[str, Any]:
    """Return what must not change when a run is resumed."""
    return {
        "recipe": dataclasses.asdict(recipe),
        "precision": resolved_precision(recipe),  # a device with a different one is refused
        "preset": to_json(detector.preset),
        "store": samples,
        "validation": None if validator is None else dict(validator.identity),
        "starting weights": state_digest(detector.state_dict()),
    }


def _is_done(trainer: Trainer, last: int) -> bool:
    """Return whether the run has been taken to its end before, so that nothing is computed now."""
    if trainer.validation is not None:  # its last result, also of a run that stops early
        return (trainer.folder.path / BEST_SCORES).exists()
    return trainer.progress.step >= last


def _announce(trainer: Trainer, order: EpochSampler, last: int) -> None:
    """Report what is trained and what is frozen, in the log and in the run folder."""
    step = trainer.training_step
    parts = freeze_report(trainer.detector, step.raw_optimizer)
    stored = trainer.about.get("backbones")
    about = {} if stored is None else {"backbones, in the store": stored}
    if "parity" in trainer.about:  # of the features, if they are from a store
        about["parity"] = trainer.about["parity"]
        log.info("parity of the store: %s", about["parity"])
    trainer.folder.write(FREEZING, json.dumps({**about, "parts": parts}, indent=2))
    if trainer.validation is not None:
        log.info("%s", trainer.validation.statement)
    at, total = trainer.progress.step, trainer.training_step.steps
    if at >= last:
        log.info("step %d of %d is reached: nothing is left to train", at, last)
        return
    if trainer.is_over():
        log.info("step %d of %d: the run has stopped early, nothing is left to train", at, total)
        return
    log.info(
        "training %s with recipe %s in %s: %s, steps %d to %d, batch %d on %s\n%s",
        trainer.detector.preset.name,
        step.recipe.name,
        resolved_precision(step.recipe),
        counted(order.samples, "sample"),
        trainer.progress.step,
        last,
        order.batch_size,
        counted(step.fabric.world_size, "device"),
        freeze_report_as_text(parts),
    )
