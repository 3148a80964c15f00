"""AdamW with per-module learning rates, and CMT's cyclic schedule."""

import math
from collections.abc import Sequence

import torch
from torch import nn

from shared.errors import ConfigError
from shared.model.detector import CmtDetector
from stage2_train.recipes import Recipe

ONLY_WITH_CAMERAS = ("img_neck", "rv_embedding")
ONLY_WITH_LIDAR = ("pts_neck", "shared_conv")


def parameter_groups(
    model: nn.Module, multipliers: Sequence[tuple[str, float]], learning_rate: float
) -> list[dict[str, object]]:
    """Group parameters by the multiplier of the longest key contained in their name.

    Returns:
        One AdamW group per multiplier, with the names it holds under `names`.

    Raises:
        ConfigError: if a key is contained in no parameter's name; such a key would silently train
            what it was meant to slow down.

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
    unused = [key for key in keys if key not in used]
    if unused:
        raise ConfigError(
            f"learning-rate key {', '.join(map(repr, unused))} is contained in no trainable "
            "parameter's name, so it would do nothing; see `named_parameters()` of the model"
        )
    return [
        {
            "params": [parameter for _, parameter in pairs],
            "names": [name for name, _ in pairs],
            "lr": learning_rate * factor,
        }
        for factor, pairs in sorted(members.items(), key=lambda item: item[0])
    ]


def cyclic_ratio(step: int, steps: int, recipe: Recipe) -> float:
    """Learning rate at a step over the base rate: cosine up to the peak, cosine down to the end.

    Source: mmcv's CyclicLrUpdaterHook, one cycle, cosine annealing.
    """
    rising = max(1, int(recipe.rising_share * steps))
    if step < rising:
        start, end, share = 1.0, recipe.peak_ratio, step / rising
    else:
        start, end = recipe.peak_ratio, recipe.final_ratio
        share = min(1.0, (step - rising) / max(1, steps - rising))
    return end + 0.5 * (start - end) * (math.cos(math.pi * share) + 1)


def make_optimizer(
    detector: CmtDetector, recipe: Recipe, steps: int
) -> tuple[torch.optim.AdamW, torch.optim.lr_scheduler.LambdaLR]:
    """Return the optimizer of the trainable parameters and its schedule over `steps`.

    A multiplier for a part that only the sensor has which this detector lacks is left out.
    """
    lacking = [
        *(ONLY_WITH_CAMERAS if detector.preset.camera is None else ()),
        *(ONLY_WITH_LIDAR if detector.preset.lidar is None else ()),
    ]
    multipliers = [(key, factor) for key, factor in recipe.lr_multipliers if key not in lacking]
    optimizer = torch.optim.AdamW(
        parameter_groups(detector, multipliers, recipe.learning_rate),
        weight_decay=recipe.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: cyclic_ratio(step, steps, recipe)
    )
    return optimizer, schedule
