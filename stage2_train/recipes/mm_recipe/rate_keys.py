"""What `custom_keys` means for the parameters there are: rates, frozen parts, keys without any."""

import difflib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from shared.checkpoint.checkpoint_table import FROZEN_PARTS, belongs
from stage2_train.recipes.mm_recipe.optimizer_section import KeyRate
from stage2_train.recipes.mm_recipe.training_config import TrainingConfig

WITHOUT_PARAMETERS = ("pts_voxel_encoder", "pts_voxel_layer")
KNOWN_MISTAKES = {
    "query_embed": "CMT makes its query embedding with the MLPs bev_embedding and rv_embedding"
}


class PartRates(NamedTuple):
    """Fields of `Recipe`, and what a store cannot train.

    Args:
        multipliers: (key, factor) pairs.
        frozen: parts.
        live: backbones that the config trains, with their factors.
    """

    multipliers: tuple[tuple[str, float], ...]
    frozen: tuple[str, ...]
    live: dict[str, float]


def read_rates(
    config: TrainingConfig,
    keys: Mapping[str, KeyRate],
    names: Sequence[str],
    backbones: Sequence[str],
    fixed: Sequence[str] = (),
) -> PartRates:
    """Apply keys as mm does: a parameter gets the longest key that its name contains.

    Args:
        config: gets notes and faults.
        keys: of `custom_keys`.
        names: of the parameters that stage 2 can train.
        backbones: the detector's.
        fixed: parts that are frozen whatever the keys say.
    """
    live = {part: _factor(part, keys) for part in backbones}
    live = {part: factor for part, factor in live.items() if factor}
    multipliers: list[tuple[str, float]] = []
    frozen = [part for part in backbones if part not in live] if live else []
    for key, (rate, decay) in keys.items():
        path = f"custom_keys[{key!r}]"
        is_stored = any(key in part for part in (*FROZEN_PARTS, *WITHOUT_PARAMETERS))
        is_stored |= key.startswith(tuple(f"{part}." for part in FROZEN_PARTS))
        if not any(key in name for name in names) and not is_stored:
            config.note(f"{path} is contained in no parameter's name{_hint(key, names)}")
        elif rate:
            multipliers.append((key, rate))
            if decay != 1 and is_stored:
                config.note(f"{path}: decay_mult {decay:g} is not followed")
            elif decay != 1:
                config.report.add(path, f": decay_mult {decay:g}; one decay for all is supported")
        elif any(key in name for name in names):
            parts = _parts(config, key, keys, names)
            frozen += parts
            config.note(
                f"{path}: lr_mult 0 freezes {', '.join(parts)}: no gradient, BatchNorm in eval "
                "mode (in mm, its statistics would go on changing)"
            )
    frozen = list(dict.fromkeys((*frozen, *fixed)))
    trained = [*(f"{part}." for part in live), *(n for n in names if not belongs(n, frozen))]
    used = [(key, rate) for key, rate in multipliers if any(key in name for name in trained)]
    return PartRates(tuple(used), tuple(frozen), live)


def _factor(part: str, keys: Mapping[str, KeyRate]) -> float:
    """Return the largest factor of a backbone's parameters."""
    below = [keys[key].rate for key in keys if key.startswith(f"{part}.")]
    whole = _longest(f"{part}.", keys)
    return max([1.0 if whole is None else keys[whole].rate, *below])


def _longest(name: str, keys: Mapping[str, KeyRate]) -> str | None:
    ranked = sorted(sorted(keys), key=len, reverse=True)
    return next((key for key in ranked if key in name), None)


def _parts(
    config: TrainingConfig, key: str, keys: Mapping[str, KeyRate], names: Sequence[str]
) -> list[str]:
    """Return the parts that a key with rate 0 freezes, as beginnings of names."""
    parts = []
    for name in names:
        if key in name:
            end = name.find(".", name.index(key) + len(key))
            parts.append(name.rpartition(".")[0] if end < 0 else name[:end])
    for name in names:
        longest = _longest(name, keys)
        if belongs(name, parts) and (longest is None or keys[longest].rate):
            trained = "no key names" if longest is None else f"{longest!r} trains"
            config.report.add(
                f"custom_keys[{key!r}]",
                f": lr_mult 0 would freeze {name} as well, which {trained}; only whole modules can "
                "be frozen",
            )
    return list(dict.fromkeys(parts))


def _hint(key: str, names: Sequence[str]) -> str:
    """Return why a key has no effect, and the nearest that would have."""
    if key in KNOWN_MISTAKES:
        return f", so it has no effect; {KNOWN_MISTAKES[key]}"
    words = {word for name in names for word in name.split(".") if not word.isdigit()}
    near = difflib.get_close_matches(key, words)
    return ", so it has no effect" + (f"; near: {', '.join(near)}" if near else "")
