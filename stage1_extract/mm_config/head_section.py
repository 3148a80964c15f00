"""The head of a config: queries, task heads, losses, matching and box coder."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from shared.config.classes import CLASS_NAMES
from shared.config.head_config import Denoising, HeadConfig
from shared.config.mm_config.config_reader import Section
from shared.model.box_coder import CODE_SIZE
from shared.model.matcher import LOG_EPS
from shared.model.task_heads import RARE_CLASS_BIAS
from stage1_extract.mm_config.config_sections import ConfigSections
from stage1_extract.mm_config.decoder_section import read_decoder

# Branches of the task heads: outputs and layers.
COMMON_HEADS = {"center": (2, 2), "height": (1, 2), "dim": (3, 2), "rot": (2, 2), "vel": (2, 2)}
HEAD_FIXED = {"common_heads": COMMON_HEADS, "init_cfg": None}
HEAD_SKIPPED = {
    "norm_bbox": "CMT's head stores it and never reads it",
    "loss_heatmap": "CMT's head builds it and never calls it",
}
TASK_HEAD_FIXED = {"init_bias": RARE_CLASS_BIAS, "init_cfg": None}
CODER_FIXED = {"score_threshold": None, "num_classes": len(CLASS_NAMES)}
CODER_SKIPPED = {"voxel_size": "the coder stores it and never reads it"}
FOCAL_FIXED = {"use_sigmoid": True, "reduction": "mean", "activated": False}
FOCAL_COST_FIXED = {"eps": LOG_EPS, "binary_input": False}
# What CMT's head uses if a config names no loss.
CLASS_LOSS = {"type": "FocalLoss", "loss_weight": 1.0}
BOX_LOSS = {"type": "L1Loss", "loss_weight": 0.25}
BOX_LOSS_FIXED = {"reduction": "mean"}
ASSIGNER_SKIPPED = {"iou_cost": "the official assigner builds it and never adds it"}
TRAIN_SKIPPED = {
    "dataset": "a label",
    "pos_weight": "of heads with anchors",
    "gaussian_overlap": "of heads with heatmaps",
    "min_radius": "of heads with heatmaps",
    "max_objs": "of heads with heatmaps",
    "dense_reg": "of heads with heatmaps",
}
TEST_SKIPPED = {
    "dataset": "a label",
    "nms_type": "CMT suppresses nothing",
    "nms_thr": "CMT suppresses nothing",
    "use_rotate_nms": "CMT suppresses nothing",
    "pre_max_size": "CMT suppresses nothing",
    "post_max_size": "CMT suppresses nothing",
    "min_radius": "CMT suppresses nothing",
    "max_num": "bbox_coder.max_num decides",
    "max_per_img": "bbox_coder.max_num decides",
    "score_threshold": "bbox_coder.score_threshold decides",
    "post_center_limit_range": "bbox_coder.post_center_range decides",
}


class LossWeights(NamedTuple):
    """Fields of `HeadConfig`."""

    class_weight: float
    box_weight: float
    focal_alpha: float
    focal_gamma: float
    code_weights: tuple[float, ...]


def read_width(sections: ConfigSections) -> tuple[int, str]:
    """Return D and the field that sets it."""
    return sections.head.integer("hidden_dim", 128), sections.head.at("hidden_dim")


def read_head(
    sections: ConfigSections, *, width: int, width_path: str, neck_channels: tuple[int, int] | None
) -> Callable[[], HeadConfig]:
    """Read `pts_bbox_head`, `train_cfg.pts` and `test_cfg.pts`.

    Args:
        sections: of the config.
        width: D.
        width_path: the field that sets it.
        neck_channels: outputs of the BEV neck's two branches, None without LiDAR.

    Returns:
        A function that makes the config; to be called only if there is no fault.
    """
    head = sections.head
    _check_head(sections, neck_channels)
    decoder = read_decoder(sections, width=width, width_path=width_path)
    losses = _read_losses(sections)
    task_width, task_kernel = _read_task_heads(head)
    max_boxes, kept_range_m = _read_coder(sections.coder)
    make = partial(
        HeadConfig,
        queries=head.integer("num_query", 900),
        width=width,
        heads=decoder.heads,
        layers=decoder.layers,
        ffn_width=decoder.ffn_width,
        dropout=decoder.dropout,
        depths=head.integer("depth_num", 64),
        task_width=task_width,
        task_kernel=task_kernel,
        denoising=_read_denoising(head),
        class_weight=losses.class_weight,
        box_weight=losses.box_weight,
        focal_alpha=losses.focal_alpha,
        focal_gamma=losses.focal_gamma,
        code_weights=losses.code_weights,
        max_boxes=max_boxes,
        kept_range_m=kept_range_m,
    )
    return make if neck_channels is None else partial(make, bev_neck_channels=neck_channels)


def _check_head(sections: ConfigSections, neck_channels: tuple[int, int] | None) -> None:
    """Check the fields of the head that have a single legal value, or no effect."""
    head = sections.head
    head.fixed(HEAD_FIXED)
    head.skip(HEAD_SKIPPED)
    (task,) = head.sections("tasks", 1)
    task.fixed({"num_class": len(CLASS_NAMES)})
    task.must_be({"class_names": CLASS_NAMES})
    if neck_channels is None:
        head.skip({"in_channels": "there is no BEV convolution to have them"})
    else:
        neck = sections.model.at("pts_neck.out_channels")
        head.expect("in_channels", sum(neck_channels), of=neck, required=True)
    if sections.test is not None:
        sections.test.skip(TEST_SKIPPED)


def _read_task_heads(head: Section) -> tuple[int, int]:
    """Return hidden channels and kernel size of the task heads."""
    section = head.section("separate_head")
    section.kind("SeparateTaskHead")
    section.fixed(TASK_HEAD_FIXED)
    kernel = section.integer("final_kernel", 1)
    if kernel % 2 == 0:
        section.fault("final_kernel", kernel, "an odd number is expected, so that sizes are kept")
    return section.integer("head_conv", 64), kernel


def _read_coder(coder: Section) -> tuple[int, tuple[float, float, float, float, float, float]]:
    """Return how many boxes are kept, and within which range."""
    coder.kind("MultiTaskBBoxCoder")
    coder.fixed(CODER_FIXED)
    coder.skip(CODER_SKIPPED)
    x_min, y_min, z_min, x_max, y_max, z_max = coder.numbers("post_center_range", 6)
    return coder.integer("max_num", 100), (x_min, y_min, z_min, x_max, y_max, z_max)


def _read_denoising(head: Section) -> Denoising:
    """Read the head's fields about denoising; the defaults are upstream's."""
    return Denoising(
        groups=head.integer("scalar", 10),
        noise_scale=head.number("noise_scale", 1.0),
        noise_offset_m=head.number("noise_trans", 0.0),
        split=head.number("split", 0.75),
        weight=head.number("dn_weight", 1.0),
    )


def _read_losses(sections: ConfigSections) -> LossWeights:
    """Read the weights of the losses, and check that the matching costs use the same numbers."""
    train, assigner = sections.train, sections.assigner
    train.skip(TRAIN_SKIPPED)
    codes = train.numbers("code_weights", CODE_SIZE)
    assigner.kind("HungarianAssigner3D", "HungarianAssigner3D_CMT")
    assigner.expect("code_weights", codes, of=train.at("code_weights"), required=True)
    assigner.skip(ASSIGNER_SKIPPED)
    loss, cost = sections.head.section("loss_cls", CLASS_LOSS), assigner.section("cls_cost")
    loss.kind("FocalLoss")
    loss.fixed(FOCAL_FIXED)
    alpha, gamma = loss.number("alpha", 0.25), loss.number("gamma", 2.0)
    cost.kind("FocalLossCost")
    cost.fixed(FOCAL_COST_FIXED)
    cost.expect("alpha", alpha, of=loss.at("alpha"), required=alpha != 0.25)
    cost.expect("gamma", gamma, of=loss.at("gamma"), required=gamma != 2)
    box_loss, box_cost = sections.head.section("loss_bbox", BOX_LOSS), assigner.section("reg_cost")
    box_loss.kind("L1Loss")
    box_loss.fixed(BOX_LOSS_FIXED)
    box_cost.kind("BBox3DL1Cost")
    return LossWeights(
        _shared_weight(loss, cost), _shared_weight(box_loss, box_cost), alpha, gamma, codes
    )


def _shared_weight(loss: Section, cost: Section) -> float:
    """Return the weight of a loss, which must equal that of the corresponding matching cost."""
    weight = loss.number("loss_weight", 1.0)
    cost.expect("weight", weight, of=loss.at("loss_weight"), required=weight != 1)
    return weight
