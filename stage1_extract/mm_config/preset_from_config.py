"""An official config file becomes a preset, or every field that stands in the way is named.

Read are `model`, the test pipeline and the training range of the resize factor. The other
top-level fields (optimizer, schedule, data paths, hooks, logging, the rest of the training
pipeline) are settings of a training run and not of a detector, so they are passed over.
"""

from pathlib import Path

from shared.config.preset import Preset
from shared.errors import ConfigError
from stage1_extract.mm_config.camera_section import read_camera
from stage1_extract.mm_config.config_faults import Report
from stage1_extract.mm_config.grid_section import read_grid
from stage1_extract.mm_config.head_section import read_head, read_width
from stage1_extract.mm_config.lidar_section import open_voxel_layer, read_lidar
from stage1_extract.mm_config.load_config import load_mm_config
from stage1_extract.mm_config.pipeline import IMAGE_STEPS, POINT_STEPS
from stage1_extract.mm_config.sections import ConfigSections, open_parts


def preset_of_config(path: Path) -> Preset:
    """Return the detector that a CMT config of mmcv 1.x or mmdet3d 1.x describes.

    Runs the file, as mm does: it is a Python program.

    Args:
        path: the config that training was started with.

    Returns:
        The preset; its name is the file's, without ".py".

    Raises:
        ConfigError: if the file cannot be loaded, if a field of the model is unknown or has a value
            that this project cannot build (all of them are listed), or if two fields disagree.
    """
    config = load_mm_config(path)
    report = Report()
    parts = open_parts(config, report)
    width, width_path = read_width(parts)
    make_camera = None
    if parts.has_camera:
        make_camera = read_camera(parts, width=width, width_path=width_path)
    make_lidar = neck_channels = voxels = encoder = None
    if parts.has_lidar:
        voxels, encoder = open_voxel_layer(parts), parts.model.section("pts_middle_encoder")
        make_lidar, neck_channels = read_lidar(parts, voxels, encoder)
    make_grid = read_grid(parts, voxels, encoder)
    make_head = read_head(parts, width=width, width_path=width_path, neck_channels=neck_channels)
    _finish(parts)
    report.raise_faults(str(path))
    try:
        return Preset(
            name=path.stem,
            grid=make_grid(),
            camera=None if make_camera is None else make_camera(),
            lidar=None if make_lidar is None else make_lidar(),
            head=make_head(),
        )
    except ConfigError as fault:
        raise ConfigError(f"{path}: {fault}") from fault


def _finish(parts: ConfigSections) -> None:
    """Note what nobody read; what belongs to a sensor that is not there has no effect."""
    absent = [
        *([] if parts.has_camera else IMAGE_STEPS),
        *([] if parts.has_lidar else POINT_STEPS),
    ]
    for kind, step in parts.steps.items():
        if kind not in absent:
            step.finish()
    if not parts.has_camera and parts.preprocessor is not None:
        parts.preprocessor.skip(
            {
                "mean": "there are no images",
                "std": "there are no images",
                "pad_size_divisor": "there are no images",
            }
        )
    parts.model.finish()
