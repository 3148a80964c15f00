"""The camera branch of a config: image size and normalisation, image backbone, image neck."""

import logging
import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from shared.config.mm_config.config_reader import Section
from shared.config.preset import BACKBONE_GROWTH, Backbone, CameraBranch
from stage1_extract.mm_config.config_sections import ConfigSections
from stage1_extract.mm_config.norm_section import TORCH_EPS, expect_frozen_norm
from stage1_extract.mm_config.pipeline import RESIZE_STEPS, training_resize_lim

logger = logging.getLogger(__name__)

BASE_CHANNELS = 64  # of both networks, as published

FROZEN_SKIPPED = {
    "frozen_stages": "all of it is frozen",
    "norm_eval": "all of it is in eval mode",
    "with_cp": "saves memory in the backward pass; there is none",
    "pretrained": "the weights come from the checkpoint",
    "init_cfg": "the weights come from the checkpoint",
}
RESNET_REQUIRED = {"depth": 50, "out_indices": (2, 3)}
RESNET_FIXED = {
    "in_channels": 3,
    "num_stages": 4,
    "strides": (1, 2, 2, 2),
    "dilations": (1, 1, 1, 1),
    "style": "pytorch",
    "deep_stem": False,
    "avg_down": False,
    "conv_cfg": None,
    "dcn": None,
    "stage_with_dcn": (False, False, False, False),
    "plugins": None,
}
RESNET_SKIPPED = FROZEN_SKIPPED | {"zero_init_residual": "the weights come from the checkpoint"}
VOVNET_REQUIRED = {"spec_name": "V-99-eSE", "out_features": ("stage4", "stage5")}
VOVNET_FIXED = {"input_ch": 3}
NECK_REQUIRED = {"num_outs": 2}
NECK_FIXED = {
    "start_level": 0,
    "end_level": -1,
    "add_extra_convs": False,
    "relu_before_extra_convs": False,
    "no_norm_on_lateral": False,
    "conv_cfg": None,
    "norm_cfg": None,
    "act_cfg": None,
    "upsample_cfg": {"mode": "nearest"},
}
NECK_SKIPPED = {"init_cfg": "the weights come from the checkpoint, or are Xavier-uniform as in CMT"}
RAW_PX = (900, 1600)  # height and width of nuScenes images, for a config that does not say
ZEROS = (0, 0)
LOAD_FIXED = {"num_ref_frames": -1}
LOAD_SKIPPED = {
    "to_float32": "pixels stay whole numbers until they are normalised",
    "backend_args": "says where files are stored",
    "file_client_args": "says where files are stored",
    "num_views": "nuScenes has six cameras",
    "test_mode": "chooses past frames; there are none",
    "set_default_scale": "only records a size",
}
FLIP_SKIPPED = {"rand_flip": "acts in training only"}
PAD_SKIPPED = {"pad_val": "nothing is padded"}


def read_camera(
    sections: ConfigSections, *, width: int, width_path: str
) -> Callable[[], CameraBranch]:
    """Read image backbone, neck and image steps.

    Args:
        sections: of the config.
        width: D, the output channels of the neck.
        width_path: the field that sets it.

    Returns:
        A function that makes the branch; to be called only if there is no fault.
    """
    section = sections.model.section("img_backbone")
    backbone, base_channels = _read_backbone(section)
    channels = [growth * base_channels for growth in BACKBONE_GROWTH[backbone]]
    neck = sections.model.section("img_neck")
    neck.kind("CPFPN")
    neck.expect("in_channels", channels, of=section.path, required=True)
    neck.expect("out_channels", width, of=width_path, required=True)
    neck.must_be(NECK_REQUIRED)
    neck.fixed(NECK_FIXED)
    neck.skip(NECK_SKIPPED)
    read_loading(sections)
    size, normalisation = read_size(sections), read_normalisation(sections)
    return partial(
        CameraBranch,
        backbone=backbone,
        base_channels=base_channels,
        height_px=size.height_px,
        width_px=size.width_px,
        raw_height_px=size.raw_height_px,
        raw_width_px=size.raw_width_px,
        resize_lim=size.resize_lim,
        mean_bgr=normalisation.mean_bgr,
        std_bgr=normalisation.std_bgr,
    )


def _read_backbone(section: Section) -> tuple[Backbone, int]:
    """Return the architecture and the width of its stem."""
    if section.kind("ResNet", "VoVNet") == "VoVNet":
        section.must_be(VOVNET_REQUIRED)
        section.fixed(VOVNET_FIXED)
        section.skip(FROZEN_SKIPPED)
        return "vovnet99", BASE_CHANNELS
    section.must_be(RESNET_REQUIRED)
    section.fixed(RESNET_FIXED)
    section.skip(RESNET_SKIPPED)
    expect_frozen_norm(section, dims=2, eps=TORCH_EPS)
    base_channels = section.integer("base_channels", BASE_CHANNELS)
    section.expect("stem_channels", None, base_channels, of=section.at("base_channels"))
    return "resnet50", base_channels


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


def read_loading(sections: ConfigSections) -> None:
    """Check how images are loaded: all channels of six JPEGs, BGR."""
    for kind in ("LoadMultiViewImageFromFiles", "BEVLoadMultiViewImageFromFiles"):
        if kind in sections.steps:
            step = sections.steps[kind]
            step.expect("color_type", "unchanged", "color")
            step.fixed(LOAD_FIXED)
            step.skip(LOAD_SKIPPED)


def read_size(sections: ConfigSections) -> ImageSize:
    """Read the step that resizes, and check that no later step pads."""
    kinds = [kind for kind in RESIZE_STEPS if kind in sections.steps]
    if len(kinds) != 1:
        sections.report.add(
            f"test_pipeline.{RESIZE_STEPS[0]}",
            f": exactly one step that resizes is expected, {' or '.join(RESIZE_STEPS)}; the "
            f"pipeline has {kinds}",
        )
        return ImageSize(1, 1, 1, 1, (1.0, 1.0))
    step = sections.steps[kinds[0]]
    size = _of_cmt(step) if kinds[0] == "ResizeCropFlipImage" else _of_bevfusion(step)
    pad = sections.steps.get("PadMultiViewImage")
    if pad is not None:
        pad.fixed({"size": None})
        pad.skip(PAD_SKIPPED)
        _expect_no_padding(pad, "size_divisor", size)
    if sections.preprocessor is not None:
        _expect_no_padding(sections.preprocessor, "pad_size_divisor", size)
    trained = training_resize_lim(sections.config, kinds[0])
    return size if trained is None else size._replace(resize_lim=trained)


def read_normalisation(sections: ConfigSections) -> Normalisation:
    """Read mean and deviation, from the pipeline or from the preprocessor."""
    step, preprocessor = sections.steps.get("NormalizeMultiviewImage"), sections.preprocessor
    if step is not None:
        step.expect("to_rgb", False, required=True)
        if preprocessor is not None and preprocessor.has("mean"):
            preprocessor.fault(
                "mean", preprocessor.value("mean"), f"{step.path} already normalises images"
            )
            preprocessor.value("std")
        return _normalisation(step)
    if preprocessor is not None and preprocessor.has("mean"):
        return _normalisation(preprocessor)
    sections.report.add(
        "test_pipeline.NormalizeMultiviewImage",
        f": missing, and {sections.model.at('data_preprocessor')} has no mean and std either",
    )
    return Normalisation((1, 1, 1), (1, 1, 1))


def _of_cmt(step: Section) -> ImageSize:
    """Read CMT's own step, as in every official config."""
    step.expect("training", False, required=True)
    step.fixed({"pic_wise": False})
    conf = step.section("data_aug_conf")
    return _size(conf, conf.integer("H"), conf.integer("W"))


def _of_bevfusion(step: Section) -> ImageSize:
    """Read BEVFusion's step: it resizes by the middle of a range; ours fills the input."""
    step.expect("is_train", False, required=True)
    size = _size(step, *RAW_PX)
    middle = sum(size.resize_lim) / 2
    ours = max(size.height_px / RAW_PX[0], size.width_px / RAW_PX[1])
    if not math.isclose(middle, ours):
        step.fault(
            "resize_lim",
            size.resize_lim,
            f"images would be resized by {middle:g}, but ours are resized by {ours:g}, which fills "
            f"{size.height_px} x {size.width_px} px",
        )
    logger.warning(
        "%s resizes with Pillow, we with OpenCV: pixels differ slightly from those in training",
        step.path,
    )
    return size


def _size(conf: Section, raw_height_px: int, raw_width_px: int) -> ImageSize:
    """Read the fields that both kinds of step have."""
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
