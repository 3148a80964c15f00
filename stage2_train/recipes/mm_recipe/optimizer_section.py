"""The optimizer of a config: rates, decay, clipping, precision."""

from collections.abc import Mapping
from typing import NamedTuple

from shared.config.mm_config.config_reader import Section
from stage2_train.recipes.mm_recipe.training_config import TrainingConfig
from stage2_train.recipes.recipe import Precision

HOOKS = ("OptimizerHook", "Fp16OptimizerHook", "GradientCumulativeOptimizerHook")
CMT_HOOK = "CustomFp16OptimizerHook"
HOOK_SKIPPED = {
    "custom_fp16": "what decides (matching, losses, softmax statistics) is float32 here",
    "distributed": "the number of processes does not matter",
    "coalesce": "says how gradients travel",
    "bucket_size_mb": "says how gradients travel",
}
ADAMW_FIXED = {"betas": (0.9, 0.999), "eps": 1e-8, "amsgrad": False}
UNIFORM_DECAY = {"norm_decay_mult": 1.0, "bias_decay_mult": 1.0, "bias_lr_mult": 1.0}


class KeyRate(NamedTuple):
    """What `custom_keys` says of the parameters whose names contain a key."""

    rate: float
    decay: float


class OptimizerSettings(NamedTuple):
    """Fields of `Recipe`, and `custom_keys` in its order."""

    learning_rate: float
    weight_decay: float
    clip_norm: float
    precision: Precision
    keys: dict[str, KeyRate]


def read_optimizer(config: TrainingConfig) -> OptimizerSettings:
    """Read AdamW, in the form of mmcv 1.x or of mmengine."""
    whole = config.whole
    if config.is_mmengine:
        around = whole.section("optim_wrapper")
        optimizer = around.section("optimizer")
        paramwise = around.optional_section("paramwise_cfg")
        clip = around.section("clip_grad")
        precision = _precision_of_wrapper(config, around)
    else:
        around, optimizer = whole.section("optimizer_config"), whole.section("optimizer")
        paramwise = optimizer.optional_section("paramwise_cfg")
        clip = around.section("grad_clip")
        precision = _precision_of_hook(config, around)
    optimizer.kind("AdamW")
    optimizer.fixed(ADAMW_FIXED)
    clip.fixed({"norm_type": 2})
    settings = OptimizerSettings(
        learning_rate=optimizer.number("lr"),
        weight_decay=optimizer.number("weight_decay", 0.01),
        clip_norm=clip.number("max_norm"),
        precision=precision,
        keys={} if paramwise is None else _read_keys(paramwise),
    )
    for section in (around, optimizer, paramwise):
        if section is not None:
            section.finish()
    return settings


def _read_keys(paramwise: Section) -> dict[str, KeyRate]:
    paramwise.fixed(UNIFORM_DECAY)
    path = paramwise.at("custom_keys")
    fields = paramwise.value("custom_keys")
    if not isinstance(fields, Mapping):
        return {}
    keys = Section(fields, path, paramwise.report)
    rates = {}
    for name in fields:
        key = keys.section(name)
        rates[name] = KeyRate(key.number("lr_mult", 1.0), key.number("decay_mult", 1.0))
    keys.finish()
    return rates


def _precision_of_hook(config: TrainingConfig, hook: Section) -> Precision:
    """Return the precision of mmcv 1.x: a hook for float16, or a top-level `fp16`."""
    kind = hook.value("type") or HOOKS[0]
    if kind not in (*HOOKS, CMT_HOOK):
        hook.fault("type", kind, f"only {' or '.join((*HOOKS, CMT_HOOK))} is supported")
    hook.skip(HOOK_SKIPPED)
    hook.expect("cumulative_iters", 1)
    scale = hook.value("loss_scale")
    fp16 = config.whole.value("fp16")
    if "Fp16" not in str(kind) and fp16 is None:
        return "32-true"
    return _mixed(config, scale if fp16 is None else fp16)


def _precision_of_wrapper(config: TrainingConfig, wrapper: Section) -> Precision:
    """Return the precision of mmengine: `AmpOptimWrapper` and its `dtype`."""
    kind = wrapper.value("type") or "OptimWrapper"
    if kind not in ("OptimWrapper", "AmpOptimWrapper"):
        wrapper.fault("type", kind, "only OptimWrapper or AmpOptimWrapper is supported")
    wrapper.expect("accumulative_counts", 1)
    scale, dtype = wrapper.value("loss_scale"), wrapper.value("dtype")
    if kind == "OptimWrapper":
        return "32-true"
    return "bf16-mixed" if dtype == "bfloat16" else _mixed(config, scale)


def _mixed(config: TrainingConfig, scale: object) -> Precision:
    said = f" ({scale!r} in the config)" if scale is not None else ""
    config.note(
        "mixed precision: 'auto', which is bfloat16 where the GPU has it, float16 on another GPU "
        f"and float32 on a CPU; the loss scale{said} adapts itself"
    )
    return "auto"
