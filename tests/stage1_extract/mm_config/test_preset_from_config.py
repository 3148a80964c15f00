"""A config of CMT becomes the preset that it describes, or every field in the way is named."""

import copy
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from shared.config.head_config import Denoising
from shared.config.preset import MAX_SWEEPS
from shared.config.preset_catalogue import PRESETS, r50_800x320
from shared.errors import ConfigError
from stage1_extract.mm_config.preset_from_config import preset_from_config
from tests.stage1_extract.mm_config.official_configs import (
    Config,
    changed,
    image_steps,
    mmcv_config,
    mmdet3d_config,
    normalised_by_preprocessor,
    without,
)

Write = Callable[[Config], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(config: Config) -> Path:
        path = tmp_path / "mine.py"
        path.write_text("".join(f"{name} = {value!r}\n" for name, value in config.items()))
        return path

    return to_file


@pytest.fixture
def refusal(write: Write) -> Callable[[Config], str]:
    def message(config: Config) -> str:
        with pytest.raises(ConfigError) as caught:
            preset_from_config(write(config))
        return str(caught.value)

    return message


FUSION = mmcv_config("r50_800x320")
HEAD = "model.pts_bbox_head"
LAYER = f"{HEAD}.transformer.decoder.transformerlayers"
TEST_STEPS = "data.test.pipeline"
RESIZE = f"{TEST_STEPS}.2.transforms.1"
OFFICIAL = ("r50_800x320", "vov_1600x640", "lidar_voxel0075", "camera_vov_1600x640")


@pytest.mark.parametrize("form", [mmcv_config, mmdet3d_config])
@pytest.mark.parametrize("name", OFFICIAL)
def test_the_official_values_give_our_preset(
    write: Write, form: Callable[[str], Config], name: str
) -> None:
    preset = preset_from_config(write(form(name)))
    assert preset.name == "mine"
    assert replace(preset, name=name) == PRESETS[name]()


@pytest.mark.parametrize(
    ("path", "value", "branch", "field", "expected"),
    [
        (f"{HEAD}.num_query", 300, "head", "queries", 300),
        (f"{HEAD}.depth_num", 32, "head", "depths", 32),
        (f"{HEAD}.separate_head.head_conv", 32, "head", "task_width", 32),
        (f"{HEAD}.bbox_coder.max_num", 100, "head", "max_boxes", 100),
        (f"{HEAD}.transformer.decoder.num_layers", 2, "head", "layers", 2),
        (f"{HEAD}.scalar", 5, "head", "denoising", Denoising(groups=5)),
        (f"{HEAD}.noise_trans", 1, "head", "denoising", Denoising(noise_offset_m=1.0)),
        ("model.pts_voxel_layer.max_voxels", 90000, "lidar", "max_voxels", 90000),
        ("model.pts_voxel_layer.max_num_points", 20, "lidar", "max_points_per_voxel", 20),
        ("model.pts_backbone.layer_nums", [1, 2], "lidar", "second_layers", (1, 2)),
        (f"{TEST_STEPS}.1.sweeps_num", 0, "lidar", "sweeps", 0),
        (f"{TEST_STEPS}.1.remove_close", True, "lidar", "drop_close_points", True),
        (f"{TEST_STEPS}.1.pad_empty_sweeps", True, "lidar", "pad_without_sweeps", True),
        (f"{RESIZE}.data_aug_conf.final_dim", (320, 480), "camera", "width_px", 480),
        (f"{TEST_STEPS}.2.transforms.2.std", [1, 2, 3], "camera", "std_bgr", (1.0, 2.0, 3.0)),
        (
            "train_pipeline",
            [{"type": "ResizeCropFlipImage"}],
            "camera",
            "resize_lim",
            (0.47, 0.625),
        ),
    ],
)
def test_a_field_lands_where_it_belongs(
    write: Write, path: str, value: object, branch: str, field: str, expected: object
) -> None:
    preset = preset_from_config(write(changed(FUSION, path, value)))
    section = replace(getattr(PRESETS["r50_800x320"](), branch), **{field: expected})
    assert preset == replace(PRESETS["r50_800x320"](), name="mine", **{branch: section})


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        (
            f"{HEAD}.aqr_config",
            {"window": 8, "encoder": [{"layers": 1}]},
            f"{HEAD}.aqr_config.window = 8: unknown field\n"
            f"  {HEAD}.aqr_config.encoder[0].layers = 1: unknown field",
        ),
        ("model.pts_backbone.frozen_stages", 3, ".frozen_stages = 3: unknown field"),
        ("model.img_backbone.depth", 101, "img_backbone.depth = 101: only 50 is supported"),
        ("model.img_backbone.style", "caffe", "style = 'caffe': only 'pytorch' is supported"),
        (
            "model.img_backbone.norm_cfg",
            {"type": "GN"},
            "norm_cfg.type = 'GN': only BN or BN2d or SyncBN or naiveSyncBN2d is supported",
        ),
        (
            "model.img_neck.in_channels",
            [512, 1024],
            "img_neck.in_channels = [512, 1024]: disagrees with model.img_backbone, which asks for "
            "[1024, 2048]",
        ),
        (
            "model.img_neck.out_channels",
            128,
            f"disagrees with {HEAD}.hidden_dim, which asks for 256",
        ),
        (
            "model.pts_middle_encoder",
            {"type": "FlatFormer", "in_channels": 128, "activation": "gelu"},
            "model.pts_middle_encoder.type = 'FlatFormer': only SparseEncoder is supported\nRemove",
        ),
        (
            "model.pts_middle_encoder.encoder_channels",
            ((32, 16, 32), (32, 32, 64), (64, 64, 128), (128, 128)),
            "base_channels = 16: disagrees with encoder_channels, which asks for 32",
        ),
        ("model.pts_middle_encoder.encoder_channels", ((16,),), "four stages of 3, 3, 3 and 2"),
        ("model.pts_backbone.norm_cfg", {"type": "BN"}, "norm_cfg.eps: missing, and upstream's"),
        ("model.pts_voxel_layer.max_voxels", (-1, -1), "max_voxels = (-1, -1): 2 whole numbers"),
        ("model.pts_voxel_layer.max_voxels", (7, 8, 9), "max_voxels = (7, 8, 9): 2 numbers are"),
        ("model.pts_neck.use_conv_for_no_stride", False, "= False: only True is supported"),
        (
            f"{HEAD}.in_channels",
            384,
            "disagrees with model.pts_neck.out_channels, which asks for 512",
        ),
        (f"{HEAD}.downsample_scale", 4, "downsample_scale = 4: only 8 is supported"),
        (f"{HEAD}.num_query", "all", "num_query = 'all': a whole number, at least 1, is expected"),
        (f"{HEAD}.split", True, "split = True: a number is expected"),
        (
            f"{HEAD}.common_heads",
            {"center": (2, 2)},
            "common_heads = {'center': (2, 2)}: only ",
        ),
        (f"{HEAD}.tasks.0.class_names", ["car"], "tasks[0].class_names = ['car']: only "),
        (f"{HEAD}.tasks", [{}, {}], "tasks = [{}, {}]: a list of 1 dict is expected"),
        (f"{HEAD}.separate_head.type", "SeparateMlpHead", "only SeparateTaskHead is supported"),
        (f"{HEAD}.separate_head.final_kernel", 2, "final_kernel = 2: an odd number"),
        (
            f"{HEAD}.bbox_coder.score_threshold",
            0.1,
            "score_threshold = 0.1: only None is supported",
        ),
        (f"{HEAD}.loss_cls.use_sigmoid", False, "use_sigmoid = False: only True is supported"),
        (f"{HEAD}.loss_cls.loss_weight", 1.0, "assigner.cls_cost.weight = 2.0: disagrees with "),
        (
            f"{HEAD}.loss_cls.alpha",
            0.5,
            "cls_cost.alpha: missing, and upstream's default is not 0.5",
        ),
        (
            f"{LAYER}.operation_order",
            ("norm", "ffn"),
            "operation_order = ('norm', 'ffn'): only ",
        ),
        (f"{LAYER}.feedforward_channels", 512, "ffn_cfgs.feedforward_channels = 1024: disagrees"),
        (f"{LAYER}.ffn_cfgs.ffn_drop", 0.1, "ffn_drop = 0.1: only 0 is supported"),
        (f"{LAYER}.attn_cfgs.1.dropout", 0.2, "attn_cfgs[1].dropout = 0.2: disagrees with "),
        (
            f"{LAYER}.attn_cfgs.1.type",
            "PETRMultiheadAttention",
            "attn_cfgs[1].type = 'PETRMultiheadAttention': only PETRMultiheadFlashAttention is",
        ),
        ("model.train_cfg.pts.code_weights", [1.0] * 8, "code_weights = [1.0, 1.0, 1.0"),
        ("model.train_cfg.pts.assigner.code_weights", [1.0] * 10, "disagrees with model.train_cfg"),
        (
            "model.train_cfg.pts.grid_size",
            [1080, 1080, 40],
            "grid_size = [1080, 1080, 40]: disagrees with model.pts_middle_encoder.sparse_shape, "
            "which asks for (1024, 1024)",
        ),
        (
            "model.test_cfg.pts.voxel_size",
            [0.2, 0.2],
            "test_cfg.pts.voxel_size = [0.2, 0.2]: disagrees with model.pts_voxel_layer.voxel_size",
        ),
        (
            "model.pts_voxel_layer.point_cloud_range",
            [-51.2, -51.2, -5, 51.2, 51.2, 3],
            f"disagrees with {HEAD}.bbox_coder.pc_range, which asks for (-54.0,",
        ),
        ("class_names", ["car"], "class_names = ['car']: only ('car', 'truck'"),
        (
            "model.data_preprocessor",
            {"type": "Det3DDataPreprocessor", "bgr_to_rgb": True},
            "only F",
        ),
        (f"{TEST_STEPS}.0.use_dim", [0, 1, 2, 4], "pipeline[0].use_dim = [0, 1, 2, 4]: only "),
        (f"{TEST_STEPS}.1.use_dim", [0, 1, 2, 4], "pipeline[1].use_dim = [0, 1, 2, 4]: only "),
        (f"{TEST_STEPS}.0", {"type": "ModalMask3D"}, "pipeline[0].type = 'ModalMask3D': only Load"),
        (
            f"{TEST_STEPS}.2.transforms.0",
            {"type": "GlobalRotScaleTrans", "scale_ratio_range": [1, 1]},
            "transforms[0].rot_range: missing, and upstream's default is not [0, 0]",
        ),
        (f"{TEST_STEPS}.2.flip", True, "pipeline[2].flip = True: only False is supported"),
        (
            f"{RESIZE}.data_aug_conf.rot_lim",
            (-5.4, 5.4),
            "rot_lim = (-5.4, 5.4): only (0, 0) is supported",
        ),
        (f"{RESIZE}.data_aug_conf.bot_pct_lim", (0, 0.2), "bot_pct_lim = (0, 0.2): only "),
        (f"{RESIZE}.training", True, "transforms[1].training = True: only False is supported"),
        (f"{TEST_STEPS}.2.transforms.2.to_rgb", True, "to_rgb = True: only False is supported"),
        (f"{TEST_STEPS}.2.transforms.3.size_divisor", 64, "pads images of 320 x 800 px; ours are"),
        ("test_pipeline", [], "test_pipeline: differs from data.test.pipeline, which mm runs"),
        (TEST_STEPS, [], "test_pipeline.LoadPointsFromFile: missing; there must be a step"),
        (TEST_STEPS, [], "test_pipeline.ResizeCropFlipImage: exactly one step that resizes"),
    ],
)
def test_a_value_that_cannot_be_built_is_named(
    refusal: Callable[[Config], str], path: str, value: object, line: str
) -> None:
    assert line in refusal(changed(FUSION, path, value))


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (
            "model.img_backbone.depth",
            "img_backbone.depth: missing, and upstream's default is not 50",
        ),
        ("model.img_neck", "model.img_neck: missing; it must be a dict\nRemove"),
        (f"{HEAD}.tasks", f"{HEAD}.tasks: missing; it must be a list of 1 dict\nRemove"),
        (f"{HEAD}.transformer", f"{HEAD}.transformer: missing; it must be a dict\nRemove"),
        (f"{HEAD}.hidden_dim", "embed_dims = 256: disagrees with model.pts_bbox_head.hidden_dim"),
        ("model.train_cfg", "model.train_cfg: missing; it must be a dict\nRemove"),
        ("model.pts_voxel_layer", "model.pts_voxel_layer: missing; it must be a dict\nRemove"),
        ("model.img_backbone", f"{HEAD}.type = 'CmtHead': only CmtLidarHead is supported"),
        ("data", "test_pipeline: missing, and neither data.test nor test_dataloader has one"),
    ],
)
def test_a_field_that_is_missing_is_named_once(
    refusal: Callable[[Config], str], path: str, line: str
) -> None:
    assert line in refusal(without(FUSION, path))


def test_all_faults_are_listed_at_once_with_the_way_out(refusal: Callable[[Config], str]) -> None:
    config = changed(FUSION, f"{HEAD}.enable_aqr", True)
    config = changed(config, "model.img_backbone.depth", 101)
    assert re.fullmatch(
        r".*mine\.py is not a detector this project can build:\n"
        r"  model\.img_backbone\.depth = 101: only 50 is supported\n"
        r"  model\.pts_bbox_head\.enable_aqr = True: unknown field\n"
        r"Remove or correct fields.*write a function that returns a Preset.*",
        refusal(config),
    )


def test_a_detector_of_an_unknown_type_has_its_further_faults_listed_too(
    refusal: Callable[[Config], str],
) -> None:
    config = changed(changed(FUSION, "model.type", "AqrDetector"), f"{HEAD}.enable_aqr", True)
    message = refusal(config)
    assert "model.type = 'AqrDetector': only CmtDetector is supported" in message
    assert "enable_aqr = True: unknown field" in message


def test_losses_that_are_left_out_are_those_of_the_official_head(write: Write) -> None:
    config = without(without(FUSION, f"{HEAD}.loss_cls"), f"{HEAD}.loss_bbox")
    config = changed(config, "model.train_cfg.pts.assigner.cls_cost.weight", 1.0)
    head = preset_from_config(write(config)).head
    assert (head.class_weight, head.box_weight) == (1.0, 0.25)


def test_an_error_of_the_preset_itself_names_the_file(refusal: Callable[[Config], str]) -> None:
    config = changed(FUSION, f"{RESIZE}.data_aug_conf.final_dim", (300, 800))
    config = changed(config, f"{TEST_STEPS}.2.transforms.3", {"type": "Collect3D"})
    assert re.search(r"mine\.py: image size 300 x 800 px is no multiple of 32", refusal(config))


def test_a_config_that_masks_training_images_otherwise_than_variants_says_so(
    write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    for name in OFFICIAL:
        preset_from_config(write(mmcv_config(name)))
    assert not caplog.records
    unmasked = without(FUSION, "model.use_grid_mask")
    for config in (unmasked, changed(FUSION, "model.use_grid_mask", False)):
        assert preset_from_config(write(config)) == preset_from_config(write(FUSION))
        assert "model.use_grid_mask is False, but images of augmented variants" in caplog.text
        assert "are masked by GridMask" in caplog.text
        caplog.clear()
    cameras, lidar = (mmcv_config(name) for name in ("camera_vov_1600x640", "lidar_voxel0075"))
    preset_from_config(write(changed(cameras, "model.use_grid_mask", True)))
    assert "model.use_grid_mask is True, but" in caplog.text
    assert "are never masked" in caplog.text
    caplog.clear()
    preset_from_config(write(changed(lidar, "model.use_grid_mask", True)))  # it has no images
    assert not caplog.records


def test_more_sweeps_than_the_tables_are_read_with_are_refused(
    refusal: Callable[[Config], str],
) -> None:
    path = f"{TEST_STEPS}.1.sweeps_num"
    assert "mine.py: 11 sweeps are to be merged" in refusal(changed(FUSION, path, 11))
    lidar = r50_800x320().lidar
    assert lidar is not None
    assert lidar.sweeps == MAX_SWEEPS
    for sweeps in (MAX_SWEEPS + 1, -1):
        with pytest.raises(ConfigError, match="expected 0 to 10: the nuScenes tables are read"):
            replace(lidar, sweeps=sweeps)


def test_a_model_without_sensors_is_refused(refusal: Callable[[Config], str]) -> None:
    config = without(without(FUSION, "model.img_backbone"), "model.pts_backbone")
    assert "model: has neither img_backbone nor pts_backbone" in refusal(config)


def test_steps_of_an_absent_sensor_have_no_effect(write: Write) -> None:
    config = mmcv_config("lidar_voxel0075")
    config["data"]["test"]["pipeline"] += image_steps((320, 800), (0.47, 0.625))
    config["model"]["data_preprocessor"] = {"type": "Det3DDataPreprocessor", "mean": [1, 2, 3]}
    assert preset_from_config(write(config)).camera is None


def test_a_pipeline_inside_a_wrapped_dataset_is_read(write: Write) -> None:
    config = mmcv_config("r50_800x320")
    config["data"] = {"test": {"type": "CBGSDataset", "dataset": config["data"]["test"]}}
    assert preset_from_config(write(config)).camera == PRESETS["r50_800x320"]().camera


def test_the_preprocessor_may_normalise_instead_of_the_pipeline(write: Write) -> None:
    assert preset_from_config(write(normalised_by_preprocessor(FUSION))).camera == (
        PRESETS["r50_800x320"]().camera
    )


def test_normalising_twice_or_never_is_refused(refusal: Callable[[Config], str]) -> None:
    step = FUSION["data"]["test"]["pipeline"][2]["transforms"][2]
    twice = normalised_by_preprocessor(FUSION)
    twice["data"]["test"]["pipeline"].insert(3, step)
    assert "123.675]: data.test.pipeline[3] already normalises images" in refusal(twice)
    never = without(normalised_by_preprocessor(FUSION), "model.data_preprocessor")
    assert (
        "test_pipeline.NormalizeMultiviewImage: missing, and model.data_preprocessor has no"
        in refusal(never)
    )


def test_images_processed_in_a_wrong_order_are_refused(
    refusal: Callable[[Config], str],
) -> None:
    config = copy.deepcopy(FUSION)
    config["data"]["test"]["pipeline"][2]["transforms"].reverse()
    assert "data.test.pipeline: images must be processed in the order" in refusal(config)


def test_bevfusion_images_are_accepted_if_they_fill_the_input(
    write: Write, refusal: Callable[[Config], str], caplog: pytest.LogCaptureFixture
) -> None:
    """800 px of 1,600 are a factor of 0.5, which BEVFusion's test range must mean too."""
    aug = {"type": "ImageAug3D", "final_dim": [320, 800], "is_train": False, "rand_flip": False}
    aug |= {"bot_pct_lim": [0.0, 0.0], "rot_lim": [0.0, 0.0]}
    training = {"dataset": {"dataset": {"pipeline": [aug | {"resize_lim": [0.47, 0.625]}]}}}
    config = changed(FUSION, "train_dataloader", training)
    config = changed(config, RESIZE, aug | {"resize_lim": [0.5, 0.5]})
    assert preset_from_config(write(config)).camera == PRESETS["r50_800x320"]().camera
    assert "resizes with Pillow, we with OpenCV" in caplog.text
    config = changed(config, RESIZE, aug | {"resize_lim": [0.48, 0.48]})
    assert "images would be resized by 0.48, but ours are resized by 0.5" in refusal(config)


def test_two_voxel_layers_are_refused(refusal: Callable[[Config], str]) -> None:
    config = mmdet3d_config("r50_800x320")
    config["model"]["pts_voxel_layer"] = FUSION["model"]["pts_voxel_layer"]
    assert "voxel_layer: given in addition to model.pts_voxel_layer" in refusal(config)


def test_a_child_config_overrides_what_it_sets(write: Write, tmp_path: Path) -> None:
    base = write(FUSION)
    child = tmp_path / "child.py"
    child.write_text(
        f"_base_ = ['./{base.name}']\nmodel = dict(pts_bbox_head=dict(num_query=300))\n"
    )
    preset = preset_from_config(child)
    assert (preset.name, preset.head.queries, preset.head.depths) == ("child", 300, 64)


def test_an_empty_field_is_never_filled_in_silently(
    refusal: Callable[[Config], str],
) -> None:
    config = changed(FUSION, f"{HEAD}.bbox_coder.post_center_range", None)
    assert "post_center_range: missing; it must be 6 numbers" in refusal(config)
