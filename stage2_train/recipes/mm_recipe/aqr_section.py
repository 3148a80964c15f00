"""The AQR blocks of the public fork's head."""

from typing import Any

from shared.config.aqr_config import AqrConfig
from shared.config.mm_config.config_reader import Section
from shared.config.preset import CAMERA_STRIDES, Preset
from stage2_train.recipes.mm_recipe.training_config import TrainingConfig

BLOCKS = ("aqr_config", "attention_bias_config", "renderer_config", "modulator_config")
DEBUG_SKIPPED = dict.fromkeys(
    ("debug_mode", "debug_print", "print_interval", "visualization_interval", "fp16"),
    "plots and messages are commands and logs of their own",
)
LAYER_FIXED = {"with_cp": False, "operation_order": ("cross_attn", "norm", "ffn", "norm")}
ATTENTIONS = ("MultiheadAttention", "PETRMultiheadAttention", "PETRMultiheadFlashAttention")
FFN_FIXED = {"type": "FFN", "num_fcs": 2, "act_cfg": {"type": "ReLU", "inplace": True}}
OF_THE_DETECTOR = (
    *("type", "in_channels", "hidden_dim", "downsample_scale", "common_heads", "tasks"),
    *("bbox_coder", "separate_head", "transformer", "loss_cls", "loss_bbox", "loss_heatmap"),
    *("num_query", "norm_bbox", "depth_num", "scalar", "noise_scale", "noise_trans"),
    *("dn_weight", "split", "train_cfg", "test_cfg", "init_cfg"),
)
DIFFERS = (
    "AQR starts with weights of 0, not of tanh(1.5) as in the fork (--set aqr.start=upstream); "
    "windows lie in every camera that sees a query (docs/aqr.md, What differs)"
)
OLDER = "the older variant's, without effect beside attention_bias_config"
RENDERER_FIXED = {"render_method": "gaussian"}
RENDERER_SKIPPED = dict.fromkeys(
    ("bilinear_radius", "distance_decay", "min_weight_threshold", "normalize_weights"),
    "of other ways to render",
)
MODULATOR_FIXED = {
    "type": "FeatureModulator",
    "modulation_type": "element_wise",
    "normalize_weights": False,
    "residual_connection": True,
    "learnable_modulation": False,
    "activation": "none",
}


def read_aqr(config: TrainingConfig, preset: Preset) -> tuple[AqrConfig | None, bool]:
    """Read AQR from `model.pts_bbox_head`.

    Args:
        config: to read.
        preset: of the store, which the shapes in the config must fit.

    Returns:
        AQR's config, None if it is off; and whether its bias scale is learnt.
    """
    head = config.whole.section("model").optional_section("pts_bbox_head")
    if head is None:
        return None, True
    head.skip(dict.fromkeys(OF_THE_DETECTOR, "read by `extract-features --config`"))
    if not head.flag("enable_aqr", False):
        if any(head.has(name) for name in BLOCKS):
            config.note("AQR is off, since enable_aqr is not True; its blocks have no effect")
        head.skip(dict.fromkeys((*BLOCKS, *DEBUG_SKIPPED, "use_simple_modulation"), "AQR is off"))
        head.finish()
        return None, True
    head.skip(DEBUG_SKIPPED)
    block = head.section("aqr_config")
    fields, windows = _generator(block, preset)
    bias = head.optional_section("attention_bias_config")
    if bias is not None:
        fields |= _bias(bias, windows[0], preset)
        learnt = bias.flag("learnable_scale", False)
        head.skip(dict.fromkeys((*BLOCKS[2:], "use_simple_modulation"), OLDER))
    else:
        fields |= _modulation(head, preset)
        learnt = True
    head.finish()
    config.note(DIFFERS)
    return _checked(config, fields), learnt


def _generator(block: Section, preset: Preset) -> tuple[dict[str, Any], tuple[int, ...]]:
    """Read the weight generator; return fields of `AqrConfig` and the two windows as they are."""
    block.expect("embed_dims", preset.head.width)
    block.fixed({"use_type_embed": True})
    _expect_shapes(block, preset)
    windows = block.integers("window_sizes", 2)
    encoder = block.section("encoder_config")
    encoder.kind("PETRTransformerDecoder")
    encoder.fixed({"num_layers": 1, "return_intermediate": True})
    layer = encoder.section("transformerlayers")
    layer.kind("PETRTransformerDecoderLayer")
    layer.fixed(LAYER_FIXED)
    (attention,) = layer.sections("attn_cfgs", 1)
    attention.kind(*ATTENTIONS)
    attention.expect("embed_dims", preset.head.width)
    attention.skip({"dropout": "attention weights are not dropped here (docs/aqr.md)"})
    ffn = layer.section("ffn_cfgs")
    ffn.fixed(FFN_FIXED)
    ffn.expect("embed_dims", preset.head.width)
    layer.skip({"feedforward_channels": "unused beside ffn_cfgs, as in CMT"})
    camera, bev = (2 * (side // 2) + 1 for side in windows)
    fields = {
        # As `AqrConfig` writes the published size, so that recipes compare equal.
        "camera_window": None if camera == _published(preset) else camera,
        "bev_window": bev,
        "heads": attention.integer("num_heads"),
        "ffn_width": ffn.integer("feedforward_channels"),
        "dropout": ffn.number("ffn_drop", 0.0),
    }
    return fields, windows


def _bias(bias: Section, camera_window: int, preset: Preset) -> dict[str, Any]:
    bias.kind("AttentionBiasGenerator")
    bias.skip(DEBUG_SKIPPED)
    _expect_shapes(bias, preset)
    bias.expect("window_size", camera_window, of="model.pts_bbox_head.aqr_config.window_sizes")
    fields: dict[str, Any] = {
        "effect": "bias",
        "initial_scale": bias.number("bias_scale"),
        "min_scale": bias.number("min_scale", 0.5),
        "max_scale": bias.number("max_scale", 5.0),
        "reach": "windows" if bias.flag("use_local_bias", True) else "sensor",
        "profile": "gaussian" if bias.flag("use_gaussian_window", False) else "uniform",
    }
    sigma_cells = bias.number("gaussian_sigma", 2.0)
    return fields | ({"sigma_cells": sigma_cells} if fields["profile"] == "gaussian" else {})


def _modulation(head: Section, preset: Preset) -> dict[str, Any]:
    head.expect("use_simple_modulation", False)
    renderer, modulator = head.section("renderer_config"), head.section("modulator_config")
    renderer.fixed(RENDERER_FIXED)
    renderer.skip(RENDERER_SKIPPED)
    _expect_shapes(renderer, preset)
    modulator.fixed(MODULATOR_FIXED)
    return {
        "effect": "modulation",
        "splat_cells": renderer.number("gaussian_sigma"),
        "residual": modulator.number("residual_weight"),
    }


def _expect_shapes(section: Section, preset: Preset) -> None:
    """Check the shapes of the feature maps, which the fork writes several times."""
    cells = preset.grid.bev_cells
    section.expect("bev_feature_shape", (cells, cells))
    if preset.camera is not None:
        views, _, rows, columns = preset.camera_maps[0].shape
        section.expect("pers_feature_shape", (views, rows, columns))


def _published(preset: Preset) -> int | None:
    if preset.camera is None:
        return None
    return AqrConfig().camera_side(preset.camera.width_px // CAMERA_STRIDES[0])


def _checked(config: TrainingConfig, fields: dict[str, Any]) -> AqrConfig | None:
    """Return the config, or None if a fault makes its fields stand-ins."""
    return None if config.report.faults else AqrConfig(**fields)
