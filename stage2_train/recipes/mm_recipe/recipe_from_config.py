"""Turns a config file of mm into a recipe, or names every setting that stands in the way.

What the detector is, it leaves to the store; `extract-features --config` reads that.
"""

import functools
import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning_fabric.utilities.rank_zero import rank_zero_only

from shared.checkpoint.checkpoint_table import AQR_PARTS, FROZEN_PARTS
from shared.config.aqr_config import AqrConfig
from shared.config.cut import BACKBONE_CUT
from shared.config.mm_config.config_faults import Report
from shared.config.mm_config.config_reader import Section
from shared.config.mm_config.load_config import load_mm_config, names_in_use
from shared.config.preset import Preset
from shared.errors import ConfigError
from shared.model.detector import build_detector
from stage2_train.recipes.mm_recipe.aqr_section import read_aqr
from stage2_train.recipes.mm_recipe.data_section import read_data
from stage2_train.recipes.mm_recipe.optimizer_section import read_optimizer
from stage2_train.recipes.mm_recipe.rate_keys import read_rates
from stage2_train.recipes.mm_recipe.schedule_section import read_length, read_schedule
from stage2_train.recipes.mm_recipe.training_config import TrainingConfig
from stage2_train.recipes.recipe import Recipe

log = logging.getLogger(__name__)

HARMLESS = (
    *("plugin", "plugin_dir", "custom_imports", "dist_params", "env_cfg", "launcher", "visualizer"),
    *("point_cloud_range", "class_names", "voxel_size", "out_size_factor", "metainfo"),
    *("dataset_type", "data_root", "data_prefix", "input_modality", "backend_args"),
    *("file_client_args", "img_norm_cfg", "ida_aug_conf", "train_pipeline", "test_pipeline"),
    *("val_dataloader", "test_dataloader", "val_evaluator", "test_evaluator", "val_cfg"),
    *("test_cfg", "evaluation", "checkpoint_config", "log_config", "log_level", "log_processor"),
    *("default_hooks", "default_scope", "work_dir", "resume", "resume_from", "workflow"),
    *("find_unused_parameters", "vis_backends", "lr", "db_sampler", "gpu_ids", "model"),
)
OTHERWISE = "for training that really differs, write a function that returns a Recipe"


class ConfigRecipe(NamedTuple):
    """What a config says of training.

    Args:
        recipe: named like the file without ".py". Backbones are frozen without being named, unless
            the config trains some of them.
        live: backbones that the config trains, with their factors: not from a store.
        notes: what holds in another way than in mm.
    """

    recipe: Recipe
    live: dict[str, float]
    notes: tuple[str, ...]


def recipe_for_store(path: Path, preset: Preset) -> Recipe:
    """Return the recipe of a config that trains nothing which a store has frozen; log its notes.

    Args:
        path: the config.
        preset: of the store.

    Raises:
        ConfigError: if it trains backbones, and whatever `recipe_from_config` raises.
    """
    recipe, live, notes = recipe_from_config(path, preset)
    for note in notes:
        rank_zero_only(log.warning)("%s: %s", path, note)
    if live:
        trained = ", ".join(f"{part} (x{factor:g})" for part, factor in live.items())
        zero = ", ".join(f"{part}=dict(lr_mult=0)" for part in live)
        raise ConfigError(
            f"{path} trains {trained}, whose output a store holds and cannot change. Freeze them "
            f"in the config, or in a child of it: paramwise_cfg=dict(custom_keys=dict({zero}))"
        )
    return recipe


def recipe_from_config(path: Path, preset: Preset) -> ConfigRecipe:
    """Return the recipe that a config of mmcv 1.x or mmengine describes.

    Runs the file, as mm does: it is a Python program.

    Args:
        path: the config with which training was, or would be, started.
        preset: the detector to train; says which parameters there are.

    Raises:
        ConfigError: if the file cannot be loaded, or if a setting of training is unknown, missing,
            or one that this project does not have; all of them are listed.
    """
    whole = Section(load_mm_config(path), "", Report())
    config = TrainingConfig(whole=whole, is_mmengine=whole.has("optim_wrapper"))
    aqr, learns_scale = read_aqr(config, preset)
    optimizer = read_optimizer(config)
    names, backbones = _trainable_names(preset, aqr), _backbones(preset)
    fixed_scale = () if aqr is None or learns_scale else AQR_PARTS[1:]
    rates = read_rates(config, optimizer.keys, names, backbones, fixed_scale)
    length = read_length(config)
    fields: dict[str, Any] = {
        **read_data(config),
        **length,
        **read_schedule(config, optimizer.learning_rate, *length.values()),
    }
    _note_rest(config, names_in_use(path))
    config.report.raise_faults(f"{path} does not describe training that stage 2 has", OTHERWISE)
    try:
        recipe = Recipe(
            name=path.stem,
            aqr=aqr,
            frozen=rates.frozen,
            lr_multipliers=rates.multipliers,
            learning_rate=optimizer.learning_rate,
            weight_decay=optimizer.weight_decay,
            clip_norm=optimizer.clip_norm,
            precision=optimizer.precision,
            **fields,
        )
    except ConfigError as fault:
        raise ConfigError(f"{path}: {fault}") from fault
    return ConfigRecipe(recipe, rates.live, tuple(config.notes))


def _note_rest(config: TrainingConfig, helpers: Collection[str]) -> None:
    """Name what else the file defines and does not use itself: it may be meant for training."""
    start = config.whole.value("load_from")
    if start is not None:
        config.note(f"load_from = {start!r} is not read; name a checkpoint with --checkpoint")
    config.whole.skip(dict.fromkeys(HARMLESS, "of the detector, of files, or of logs"))
    rest = [name for name in config.whole.names_left() if name not in helpers]
    if rest:
        config.note(f"top-level names that nothing here reads: {', '.join(rest)}")


def _backbones(preset: Preset) -> list[str]:
    lacking = "img_" if preset.camera is None else "pts_" if preset.lidar is None else "none"
    return [part for part in FROZEN_PARTS if not part.startswith(lacking)]


@functools.cache
def _trainable_names(preset: Preset, aqr: AqrConfig | None) -> list[str]:
    """Return the names of the parameters after the backbones."""
    with torch.device("meta"):
        detector = build_detector(preset, BACKBONE_CUT, aqr)
    return [name for name, _ in detector.named_parameters()]
