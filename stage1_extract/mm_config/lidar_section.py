"""The LiDAR branch of a config: sweeps, voxels, sparse encoder, SECOND and its neck."""

from collections.abc import Callable
from functools import partial

from shared.config.mm_config.config_reader import Section
from shared.config.preset import LidarBranch
from shared.model.bev_neck import NORM_EPS
from stage1_extract.mm_config.config_sections import ConfigSections
from stage1_extract.mm_config.norm_section import expect_frozen_norm, expect_trained_norm
from stage1_extract.preprocessing.sweeps import COLUMNS

ALL_COLUMNS = list(range(COLUMNS))
HEIGHT_SLICES = 2  # of the sparse encoder's output; SECOND sees them stacked
BASE_CHANNELS, OUT_CHANNELS = 16, 128  # SparseEncoder's defaults
CONV_CFG = {"type": "Conv2d", "bias": False}

KEYFRAME_FIXED = {
    "coord_type": "LIDAR",
    "shift_height": False,
    "use_color": False,
    "norm_intensity": False,
    "norm_elongation": False,
}
FILES_SKIPPED = {
    "backend_args": "says where files are stored",
    "file_client_args": "says where files are stored",
}
SWEEPS_SKIPPED = FILES_SKIPPED | {
    "test_mode": "if there are more sweeps than asked for, the newest are used, not random ones"
}
VOXEL_SKIPPED = {
    "deterministic": "voxels are made in the order of the points wherever that is possible"
}
ENCODER_REQUIRED = {
    "in_channels": COLUMNS,
    "encoder_paddings": ((0, 0, 1), (0, 0, 1), (0, 0, [0, 1, 1]), (0, 0)),
    "block_type": "basicblock",
}
ENCODER_FIXED = {"order": ("conv", "norm", "act"), "return_middle_feats": False}
SECOND_REQUIRED = {"layer_strides": [1, 2]}
SECOND_FIXED = {"conv_cfg": CONV_CFG}
SECOND_SKIPPED = {
    "pretrained": "the weights come from the checkpoint",
    "init_cfg": "the weights come from the checkpoint",
}
NECK_REQUIRED = {"upsample_strides": [1, 2], "use_conv_for_no_stride": True}
NECK_FIXED = {"upsample_cfg": {"type": "deconv", "bias": False}, "conv_cfg": CONV_CFG}
NECK_SKIPPED = {"init_cfg": "the weights come from the checkpoint, or are drawn as in CMT"}


def open_voxel_layer(sections: ConfigSections) -> Section:
    """Return the section with range and voxel size, in CMT's own or in mmdet3d 1.x's place."""
    preprocessor = sections.preprocessor
    if preprocessor is None or not preprocessor.has("voxel_layer"):
        if preprocessor is not None:
            preprocessor.fixed({"voxel": False, "voxel_type": "hard"})
        return sections.model.section("pts_voxel_layer")
    if sections.model.has("pts_voxel_layer"):
        sections.report.add(
            preprocessor.at("voxel_layer"),
            f": given in addition to {sections.model.at('pts_voxel_layer')}",
        )
    preprocessor.expect("voxel", True, required=True)
    preprocessor.fixed({"voxel_type": "hard"})
    return preprocessor.section("voxel_layer")


def read_lidar(
    sections: ConfigSections, voxels: Section, encoder: Section
) -> tuple[Callable[[], LidarBranch], tuple[int, int]]:
    """Read everything from the sweeps to the BEV neck; range and grid are read elsewhere.

    Args:
        sections: of the config.
        voxels: what `open_voxel_layer` returned.
        encoder: `pts_middle_encoder`.

    Returns:
        make: makes the branch; to be called only if there is no fault.
        neck_channels: outputs of the neck's two branches.
    """
    voxels.fixed({"num_point_features": COLUMNS})
    voxels.skip(VOXEL_SKIPPED)
    mean = sections.model.section("pts_voxel_encoder")
    mean.kind("HardSimpleVFE")
    mean.must_be({"num_features": COLUMNS})
    sweeps, drop_close_points, pad_without_sweeps = _read_sweeps(sections)
    encoder_channels, encoder_out_channels = _read_encoder(encoder)
    second = sections.model.section("pts_backbone")
    second.expect(
        "in_channels", HEIGHT_SLICES * encoder_out_channels, of=encoder.path, required=True
    )
    second_channels, second_layers = _read_second(second)
    make = partial(
        LidarBranch,
        sweeps=sweeps,
        drop_close_points=drop_close_points,
        pad_without_sweeps=pad_without_sweeps,
        max_points_per_voxel=voxels.integer("max_num_points"),
        max_voxels=_read_max_voxels(voxels),
        encoder_channels=encoder_channels,
        encoder_out_channels=encoder_out_channels,
        second_channels=second_channels,
        second_layers=second_layers,
    )
    return make, _read_neck(sections, second_channels, second.at("out_channels"))


def _read_sweeps(sections: ConfigSections) -> tuple[int, bool, bool]:
    """Return sweeps, whether to drop close points, and whether to repeat a lone keyframe."""
    # Without the second step, the fifth column would be the ring index; ours is the time lag.
    kinds = ("LoadPointsFromFile", "LoadPointsFromMultiSweeps")
    for kind in kinds:
        if kind not in sections.steps:
            sections.report.add(
                f"test_pipeline.{kind}", ": missing; there must be a step of this type"
            )
            return 1, False, False
    keyframe, step = (sections.steps[kind] for kind in kinds)
    keyframe.expect("load_dim", COLUMNS, required=True)
    keyframe.expect("use_dim", ALL_COLUMNS, COLUMNS, required=True)
    keyframe.fixed(KEYFRAME_FIXED)
    keyframe.skip(FILES_SKIPPED)
    step.expect("load_dim", COLUMNS)
    step.expect("use_dim", ALL_COLUMNS, COLUMNS, required=True)
    step.skip(SWEEPS_SKIPPED)
    return (
        step.integer("sweeps_num", 10, least=0),
        step.flag("remove_close", False),
        step.flag("pad_empty_sweeps", False),
    )


def _read_max_voxels(voxels: Section) -> int:
    """Return the limit for testing, the second of a pair.

    The first is for training; augmented variants have the official one (`Augmentation`).
    """
    if voxels.has_list("max_voxels"):
        return voxels.integers("max_voxels", 2)[1]
    return voxels.integer("max_voxels")


def _read_encoder(encoder: Section) -> tuple[tuple[tuple[int, ...], ...], int]:
    """Return the channels of the sparse encoder's stages, and of its output."""
    encoder.kind("SparseEncoder")
    encoder.must_be(ENCODER_REQUIRED)
    encoder.fixed(ENCODER_FIXED)
    expect_frozen_norm(encoder, dims=1, eps=NORM_EPS)
    stages = _read_stages(encoder)
    base_channels = encoder.integer("base_channels", BASE_CHANNELS)
    if stages and base_channels != stages[0][0]:
        encoder.fault(
            "base_channels",
            base_channels,
            f"disagrees with encoder_channels, which asks for {stages[0][0]}",
        )
    return stages, encoder.integer("output_channels", OUT_CHANNELS)


def _read_stages(encoder: Section) -> tuple[tuple[int, ...], ...]:
    """Return the channels of each stage, or nothing if they do not have CMT's form."""
    match encoder.value("encoder_channels"):
        case [
            [int(), int(), int()] as first,
            [int(), int(), int()] as second,
            [int(), int(), int()] as third,
            [int(), int()] as fourth,
        ]:
            return tuple(first), tuple(second), tuple(third), tuple(fourth)
        case unexpected:
            encoder.fault(
                "encoder_channels", unexpected, "four stages of 3, 3, 3 and 2 channels are expected"
            )
            return ()


def _read_second(second: Section) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return channels and layers of SECOND's two stages."""
    second.kind("SECOND")
    second.must_be(SECOND_REQUIRED)
    second.fixed(SECOND_FIXED)
    second.skip(SECOND_SKIPPED)
    expect_frozen_norm(second, dims=2, eps=NORM_EPS)
    fine_channels, coarse_channels = second.integers("out_channels", 2)
    fine_layers, coarse_layers = second.integers("layer_nums", 2)
    return (fine_channels, coarse_channels), (fine_layers, coarse_layers)


def _read_neck(
    sections: ConfigSections, channels: tuple[int, int], channels_path: str
) -> tuple[int, int]:
    """Return the channels of the two branches of `pts_neck`, which must fit SECOND's maps."""
    neck = sections.model.section("pts_neck")
    neck.kind("SECONDFPN")
    neck.expect("in_channels", channels, of=channels_path, required=True)
    neck.must_be(NECK_REQUIRED)
    neck.fixed(NECK_FIXED)
    neck.skip(NECK_SKIPPED)
    expect_trained_norm(neck)
    fine, coarse = neck.integers("out_channels", 2)
    return fine, coarse
