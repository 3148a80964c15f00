"""The camera branch of a config: image backbone and image neck."""

from collections.abc import Callable
from functools import partial

from shared.config.preset import BACKBONE_GROWTH, Backbone, CameraBranch
from stage1_extract.mm_config.config_reader import Section
from stage1_extract.mm_config.image_section import read_loading, read_normalisation, read_size
from stage1_extract.mm_config.norm_section import TORCH_EPS, expect_frozen_norm
from stage1_extract.mm_config.sections import ConfigSections

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
NECK_SKIPPED = {"init_cfg": "the weights come from the checkpoint, or are Xavier-uniform as there"}


def read_camera(
    parts: ConfigSections, *, width: int, width_path: str
) -> Callable[[], CameraBranch]:
    """Read image backbone, neck and image steps.

    Args:
        parts: of the config.
        width: D, what the neck must give.
        width_path: field that says so.

    Returns:
        What makes the branch; to be called only when there is no fault.
    """
    section = parts.model.section("img_backbone")
    backbone, base_channels = _read_backbone(section)
    channels = [growth * base_channels for growth in BACKBONE_GROWTH[backbone]]
    neck = parts.model.section("img_neck")
    neck.kind("CPFPN")
    neck.expect("in_channels", channels, of=section.path, required=True)
    neck.expect("out_channels", width, of=width_path, required=True)
    neck.must_be(NECK_REQUIRED)
    neck.fixed(NECK_FIXED)
    neck.skip(NECK_SKIPPED)
    read_loading(parts)
    size, normalisation = read_size(parts), read_normalisation(parts)
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
