"""What a config does to an image before the image backbone: size, crop and normalisation."""

import logging
import math
from typing import NamedTuple

from stage1_extract.mm_config.config_reader import Section
from stage1_extract.mm_config.pipeline import RESIZE_STEPS, training_resize_lim
from stage1_extract.mm_config.sections import ConfigSections

logger = logging.getLogger(__name__)

RAW_PX = (900, 1600)  # height and width of nuScenes' images, for a config that does not say
ZEROS = (0, 0)
LOAD_FIXED = {"num_ref_frames": -1}
LOAD_SKIPPED = {
    "to_float32": "pixels stay whole numbers until they are normalised",
    "backend_args": "says where files lie",
    "file_client_args": "says where files lie",
    "num_views": "nuScenes has six cameras",
    "test_mode": "chooses frames of the past; there are none",
    "set_default_scale": "names a size, changes no pixel",
}
FLIP_SKIPPED = {"rand_flip": "acts in training only"}
PAD_SKIPPED = {"pad_val": "nothing is padded"}


class ImageSize(NamedTuple):
    """Sizes in pixels; fields of `CameraBranch`."""

    height_px: int
    width_px: int
    raw_height_px: int
    raw_width_px: int
    resize_lim: tuple[float, float]


class Normalisation(NamedTuple):
    """Mean and deviation of pixels; fields of `CameraBranch`."""

    mean_bgr: tuple[float, float, float]
    std_bgr: tuple[float, float, float]


def read_loading(parts: ConfigSections) -> None:
    """Check how images are loaded: all bands of six JPEGs, BGR."""
    for kind in ("LoadMultiViewImageFromFiles", "BEVLoadMultiViewImageFromFiles"):
        if kind in parts.steps:
            step = parts.steps[kind]
            step.expect("color_type", "unchanged", "color")
            step.fixed(LOAD_FIXED)
            step.skip(LOAD_SKIPPED)


def read_size(parts: ConfigSections) -> ImageSize:
    """Read the one step that resizes, and check that nothing is padded after it."""
    found = [kind for kind in RESIZE_STEPS if kind in parts.steps]
    if len(found) != 1:
        parts.report.add(
            f"test_pipeline.{RESIZE_STEPS[0]}",
            f": one step that resizes is expected, {' or '.join(RESIZE_STEPS)}; found {found}",
        )
        return ImageSize(1, 1, 1, 1, (1.0, 1.0))
    step = parts.steps[found[0]]
    size = _of_cmt(step) if found[0] == "ResizeCropFlipImage" else _of_bevfusion(step)
    pad = parts.steps.get("PadMultiViewImage")
    if pad is not None:
        pad.fixed({"size": None})
        pad.skip(PAD_SKIPPED)
        _expect_no_padding(pad, "size_divisor", size)
    if parts.preprocessor is not None:
        _expect_no_padding(parts.preprocessor, "pad_size_divisor", size)
    trained = training_resize_lim(parts.config, found[0])
    return size if trained is None else size._replace(resize_lim=trained)


def read_normalisation(parts: ConfigSections) -> Normalisation:
    """Read mean and deviation, from the pipeline or from the preprocessor."""
    step, preprocessor = parts.steps.get("NormalizeMultiviewImage"), parts.preprocessor
    if step is not None:
        step.expect("to_rgb", False, required=True)
        if preprocessor is not None and preprocessor.has("mean"):
            preprocessor.fault(
                "mean", preprocessor.value("mean"), f"{step.path} normalises images already"
            )
            preprocessor.value("std")
        return _normalisation(step)
    if preprocessor is not None and preprocessor.has("mean"):
        return _normalisation(preprocessor)
    parts.report.add(
        "test_pipeline.NormalizeMultiviewImage",
        f": missing, and {parts.model.at('data_preprocessor')} has no mean and std either",
    )
    return Normalisation((1, 1, 1), (1, 1, 1))


def _of_cmt(step: Section) -> ImageSize:
    """Read CMT's own step, which every official config has."""
    step.expect("training", False, required=True)
    step.fixed({"pic_wise": False})
    conf = step.section("data_aug_conf")
    return _size(conf, conf.integer("H"), conf.integer("W"))


def _of_bevfusion(step: Section) -> ImageSize:
    """Read BEVFusion's step: it resizes by the middle of a range, where ours fills the input."""
    step.expect("is_train", False, required=True)
    size = _size(step, *RAW_PX)
    middle = sum(size.resize_lim) / 2
    ours = max(size.height_px / RAW_PX[0], size.width_px / RAW_PX[1])
    if not math.isclose(middle, ours):
        step.fault(
            "resize_lim",
            size.resize_lim,
            f"images would be resized by {middle:g}, ours are by {ours:g}, which fills "
            f"{size.height_px} x {size.width_px} px",
        )
    logger.warning(
        "%s resizes with Pillow, we with OpenCV: pixels differ a little from those of training",
        step.path,
    )
    return size


def _size(conf: Section, raw_height_px: int, raw_width_px: int) -> ImageSize:
    """Read the fields that both steps have."""
    height_px, width_px = conf.integers("final_dim", 2)
    low, high = conf.numbers("resize_lim", 2)
    conf.expect("bot_pct_lim", ZEROS, required=True)
    conf.expect("rot_lim", ZEROS, required=True)
    conf.skip(FLIP_SKIPPED)
    return ImageSize(height_px, width_px, raw_height_px, raw_width_px, (low, high))


def _expect_no_padding(section: Section, name: str, size: ImageSize) -> None:
    divisor = section.integer(name, 1)
    if size.height_px % divisor or size.width_px % divisor:
        section.fault(
            name, divisor, f"pads images of {size.height_px} x {size.width_px} px; ours are not"
        )


def _normalisation(section: Section) -> Normalisation:
    means, deviations = section.numbers("mean", 3), section.numbers("std", 3)
    return Normalisation(
        (means[0], means[1], means[2]), (deviations[0], deviations[1], deviations[2])
    )
