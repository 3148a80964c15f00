"""Turns an official config file into a preset, or names every field that stands in the way.

It reads `model`, the test pipeline and the training range of the resize factor. Augmented variants
are those of the official config for the same sensors, see `official_augmentation`. The other
top-level fields (optimizer, schedule, data paths, hooks, logging, the rest of the training
pipeline) are settings of a training run, not of a detector, so they are ignored.
"""

import logging
from pathlib import Path
from typing import Any

from mmengine.config import Config

from shared.config.augmentation import official_augmentation
from shared.config.mm_config.config_faults import Report
from shared.config.mm_config.load_config import load_mm_config
from shared.config.preset import Preset
from shared.errors import ConfigError
from stage1_extract.mm_config.camera_section import read_camera
from stage1_extract.mm_config.config_sections import ConfigSections, open_sections
from stage1_extract.mm_config.grid_section import read_grid
from stage1_extract.mm_config.head_section import read_head, read_width
from stage1_extract.mm_config.lidar_section import open_voxel_layer, read_lidar
from stage1_extract.mm_config.pipeline import IMAGE_STEPS, POINT_STEPS

logger = logging.getLogger(__name__)

OTHERWISE = (
    "for a detector that really differs, write a function that returns a Preset, as those in "
    "shared/config/preset_catalogue.py do"
)


def preset_from_config(path: Path) -> Preset:
    """Return the detector that a CMT config of mmcv 1.x or mmdet3d 1.x describes.

    Runs the file, as mm does: it is a Python program.

    Args:
        path: the config with which training was started.

    Returns:
        The preset, named like the file without ".py".

    Raises:
        ConfigError: if the file cannot be loaded, if a field of the model is unknown or has a value
            that this project cannot build (all such fields are listed), or if fields disagree.
    """
    config = load_mm_config(path, _run_by_mmengine)
    report = Report()
    sections = open_sections(config, report)
    width, width_path = read_width(sections)
    make_camera = None
    if sections.has_camera:
        make_camera = read_camera(sections, width=width, width_path=width_path)
    make_lidar = neck_channels = voxels = encoder = None
    if sections.has_lidar:
        voxels, encoder = open_voxel_layer(sections), sections.model.section("pts_middle_encoder")
        make_lidar, neck_channels = read_lidar(sections, voxels, encoder)
    make_grid = read_grid(sections, voxels, encoder)
    make_head = read_head(sections, width=width, width_path=width_path, neck_channels=neck_channels)
    has_mask = sections.model.flag("use_grid_mask", False)
    _finish(sections)
    report.raise_faults(f"{path} is not a detector this project can build", OTHERWISE)
    try:
        preset = Preset(
            name=path.stem,
            grid=make_grid(),
            camera=None if make_camera is None else make_camera(),
            lidar=None if make_lidar is None else make_lidar(),
            head=make_head(),
        )
    except ConfigError as fault:
        raise ConfigError(f"{path}: {fault}") from fault
    _compare_masks(path, has_mask, preset)
    return preset


def _compare_masks(path: Path, has_mask: bool, preset: Preset) -> None:
    """Warn if training with the config sees GridMask, and augmented variants do not, or reverse."""
    is_masked = official_augmentation(preset).grid_mask_probability > 0
    if preset.camera is not None and has_mask != is_masked:
        logger.warning(
            "%s: model.use_grid_mask is %s, but images of augmented variants (--variants) are %s, "
            "as the official config for these sensors has it; samples as recorded do not differ",
            path,
            has_mask,
            "masked by GridMask" if is_masked else "never masked",
        )


def _run_by_mmengine(path: Path) -> dict[str, Any]:
    # lazy_import=False: a plain import in a config must not switch mmengine to its new dialect.
    loaded = Config.fromfile(path, import_custom_modules=False, lazy_import=False)
    config: dict[str, Any] = loaded.to_dict()
    return config


def _finish(sections: ConfigSections) -> None:
    """Report unread fields, except those of an absent sensor, which have no effect."""
    absent = [
        *([] if sections.has_camera else IMAGE_STEPS),
        *([] if sections.has_lidar else POINT_STEPS),
    ]
    for kind, step in sections.steps.items():
        if kind not in absent:
            step.finish()
    if not sections.has_camera and sections.preprocessor is not None:
        sections.preprocessor.skip(
            {
                "mean": "there are no images",
                "std": "there are no images",
                "pad_size_divisor": "there are no images",
            }
        )
    sections.model.finish()
