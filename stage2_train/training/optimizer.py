"""AdamW with per-module learning rates."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from shared.errors import ConfigError
from shared.model.detector import CmtDetector
from stage2_train.recipes.recipe import Recipe

ONLY_WITH_CAMERAS = ("img_neck", "rv_embedding")
ONLY_WITH_LIDAR = ("pts_neck", "shared_conv")
ONLY_WITH_AQR = ("aqr_weight_generator",)
ONLY_WITH_BIAS = ("attention_bias_generator", "attention_bias_generator.bias_scale")


def parameter_groups(
    model: nn.Module,
    multipliers: Sequence[tuple[str, float]],
    learning_rate: float,
) -> list[dict[str, Any]]:
    """Group parameters by the multiplier of the longest key contained in their name.

    Args:
        model: whose trainable parameters are grouped.
        multipliers: (key, factor) pairs.
        learning_rate: of factor 1.

    Returns:
        One AdamW group per multiplier, with the multiplier as `factor`, its parameters' names as
        `names` and its rate as `initial_lr`.

    Raises:
        ConfigError: for a key that no parameter's name contains: the parameters it was meant for
            would silently train at full rate.

    Source:
        mmengine, optim/optimizer/default_constructor.py: keys are tried longest first, ties in
        alphabetical order.
    """
    keys = sorted(sorted(dict(multipliers)), key=len, reverse=True)
    factors = dict(multipliers)
    members: dict[float, list[tuple[str, nn.Parameter]]] = {}
    used = set()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        key = next((key for key in keys if key in name), None)
        used |= {key for key in keys if key in name}
        members.setdefault(1.0 if key is None else factors[key], []).append((name, parameter))
    _require_used([key for key in keys if key not in used])
    return [
        {
            "params": [parameter for _, parameter in pairs],
            "names": [name for name, _ in pairs],
            "factor": factor,
            "lr": learning_rate * factor,
            "initial_lr": learning_rate * factor,
        }
        for factor, pairs in sorted(members.items(), key=lambda item: item[0])
    ]


def _require_used(unused: Sequence[str]) -> None:
    if unused:
        raise ConfigError(
            f"learning-rate key {', '.join(map(repr, unused))} is contained in no trainable "
            "parameter's name, so it would do nothing; see `named_parameters()` of the model"
        )


def make_optimizer(
    detector: CmtDetector, recipe: Recipe, *, is_fused: bool = False
) -> torch.optim.AdamW:
    """Return the optimizer of the trainable parameters.

    Multipliers for parts that this detector lacks (of a sensor, or of AQR) are left out.

    Args:
        detector: to train.
        recipe: says the rates.
        is_fused: update in one kernel, which reads on the device whether to skip the update.

    Raises:
        ConfigError: if a multiplier matches nothing, or nothing is left to train.
    """
    lacking = [
        *(ONLY_WITH_CAMERAS if detector.preset.camera is None else ()),
        *(ONLY_WITH_LIDAR if detector.preset.lidar is None else ()),
        *(ONLY_WITH_AQR if detector.aqr is None else ()),
        *(ONLY_WITH_BIAS if detector.bias_scale is None else ()),
    ]
    multipliers = [(key, factor) for key, factor in recipe.lr_multipliers if key not in lacking]
    groups = parameter_groups(detector, multipliers, recipe.learning_rate)
    if not groups:
        raise ConfigError(f"recipe {recipe.name} freezes everything; nothing is left to train")
    # None, not False, is torch's own choice of an implementation.
    return torch.optim.AdamW(groups, weight_decay=recipe.weight_decay, fused=is_fused or None)


def load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Restore an optimizer's state, but not the implementation that it was saved with.

    A run that continues on a different kind of device updates as that device does.
    """
    groups = [
        saved | {"fused": own["fused"], "foreach": own["foreach"]}
        for saved, own in zip(state["param_groups"], optimizer.param_groups, strict=True)
    ]
    optimizer.load_state_dict({**state, "param_groups": groups})


def set_learning_rates(optimizer: torch.optim.Optimizer, ratio: float) -> None:
    """Set every group's rate to its own initial rate times `ratio`."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * ratio
