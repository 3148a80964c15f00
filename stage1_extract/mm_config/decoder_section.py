"""The decoder of a config: transformer, attention and feed-forward layers."""

from typing import NamedTuple

from shared.config.mm_config.config_reader import Section
from stage1_extract.mm_config.config_sections import ConfigSections

RELU = {"type": "ReLU", "inplace": True}
ORDER = ("self_attn", "norm", "cross_attn", "norm", "ffn", "norm")
TRANSFORMER_FIXED = {"encoder": None, "cross": False, "init_cfg": None}
DECODER_REQUIRED = {"return_intermediate": True}
DECODER_FIXED = {"post_norm_cfg": {"type": "LN"}, "init_cfg": None}
LAYER_REQUIRED = {"operation_order": ORDER}
LAYER_FIXED = {
    "ffn_dropout": 0,
    "ffn_num_fcs": 2,
    "act_cfg": RELU,
    "norm_cfg": {"type": "LN"},
    "batch_first": False,
    "init_cfg": None,
}
LAYER_SKIPPED = {"with_cp": "saves memory at the price of time"}
FFN_FIXED = {
    "num_fcs": 2,
    "ffn_drop": 0,
    "act_cfg": RELU,
    "add_identity": True,
    "dropout_layer": None,
    "init_cfg": None,
}
ATTENTION_FIXED = {"proj_drop": 0, "init_cfg": None}


class DecoderSize(NamedTuple):
    """Fields of `HeadConfig`."""

    heads: int
    layers: int
    ffn_width: int
    dropout: float


def read_decoder(sections: ConfigSections, *, width: int, width_path: str) -> DecoderSize:
    """Read `transformer` of the head.

    Args:
        sections: of the config.
        width: D.
        width_path: the field that sets it.
    """
    transformer = sections.head.section("transformer")
    transformer.kind(sections.transformer)
    transformer.fixed(TRANSFORMER_FIXED)
    decoder = transformer.section("decoder")
    decoder.kind("PETRTransformerDecoder")
    decoder.must_be(DECODER_REQUIRED)
    decoder.fixed(DECODER_FIXED)
    layer = decoder.section("transformerlayers")
    layer.kind("PETRTransformerDecoderLayer")
    layer.must_be(LAYER_REQUIRED)
    layer.fixed(LAYER_FIXED)
    layer.skip(LAYER_SKIPPED)
    heads, dropout = _read_attention(layer, width, width_path)
    return DecoderSize(
        heads, decoder.integer("num_layers"), _read_ffn(layer, width, width_path), dropout
    )


def _read_attention(layer: Section, width: int, width_path: str) -> tuple[int, float]:
    """Return heads and dropout, which self- and cross-attention share.

    Upstream's cross-attention never drops attention weights, whatever `dropout` says, because of
    how it calls flash attention, and neither does ours. Other types of attention would.
    """
    self_attention, cross_attention = layer.sections("attn_cfgs", 2)
    self_attention.kind("MultiheadAttention")
    cross_attention.kind("PETRMultiheadFlashAttention")
    for attention in (self_attention, cross_attention):
        attention.expect("embed_dims", width, of=width_path, required=True)
        attention.fixed(ATTENTION_FIXED)
    heads, dropout = self_attention.integer("num_heads"), self_attention.number("dropout", 0.0)
    cross_attention.expect("num_heads", heads, of=self_attention.at("num_heads"), required=True)
    cross_attention.expect(
        "dropout", dropout, of=self_attention.at("dropout"), required=dropout != 0
    )
    return heads, dropout


def _read_ffn(layer: Section, width: int, width_path: str) -> int:
    """Return the inner width of the feed-forward network.

    Upstream: the layer's own `feedforward_channels`, called unused in the official configs, takes
    precedence over that of `ffn_cfgs` (mmcv, `BaseTransformerLayer`), so the two must agree.
    """
    ffn_width = layer.integer("feedforward_channels")
    ffn = layer.optional_section("ffn_cfgs")
    if ffn is not None:
        ffn.fixed({"type": "FFN"})
        ffn.expect("embed_dims", width, of=width_path)
        ffn.expect("feedforward_channels", ffn_width, of=layer.at("feedforward_channels"))
        ffn.fixed(FFN_FIXED)
    return ffn_width
