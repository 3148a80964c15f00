"""Parts of the detector that a recipe does not train: no gradient, and BatchNorm in eval mode."""

from collections.abc import Iterator, Sequence

from torch import nn

from cache.reader import CachedFeatures
from shared.checkpoint_table import belongs
from shared.errors import ConfigError
from shared.model.detector import CmtDetector
from stage2_train.recipes import Recipe


def require_trainable(recipe: Recipe, store: CachedFeatures) -> None:
    """Check that the recipe trains nothing that lies before the store's cut.

    Raises:
        ConfigError: naming the parts.
    """
    wanted = [part for part in store.cut.frozen_parts if not belongs(f"{part}.", recipe.frozen)]
    if wanted:
        raise ConfigError(
            f"{store.path} is cut at {store.cut}: {', '.join(wanted)} went into its features and "
            f"cannot change any more, but recipe {recipe.name} trains them. Use a recipe that "
            "freezes them (frozen_all for the necks), or a store with the cut `backbone`"
        )


def freeze(detector: CmtDetector, parts: Sequence[str]) -> None:
    """Switch off the gradients of these parts; those before the store's cut are not there.

    Raises:
        ConfigError: if a part is neither in the detector nor before the cut.
    """
    for part in parts:
        found = [one for name, one in detector.named_parameters() if belongs(name, [part])]
        if not found and not _is_absent(detector, part):
            raise ConfigError(
                f"the recipe freezes {part!r}, but no parameter's name begins with it; see "
                "`named_parameters()` of the model"
            )
        for parameter in found:
            parameter.requires_grad_(False)


def eval_frozen(detector: CmtDetector, parts: Sequence[str]) -> None:
    """Put these parts in eval mode again after `train()`, where BatchNorm would move."""
    for module in _modules(detector, parts):
        module.eval()


def _modules(detector: nn.Module, parts: Sequence[str]) -> Iterator[nn.Module]:
    for name, module in detector.named_modules():
        if belongs(f"{name}.", parts):
            yield module


def _is_absent(detector: CmtDetector, part: str) -> bool:
    """Whether a part lies before the cut, or belongs to a sensor that is not there."""
    preset = detector.preset
    missing = {
        *detector.cut.frozen_parts,
        *(("img_neck",) if preset.camera is None else ()),
        *(("pts_neck", "pts_bbox_head.shared_conv") if preset.lidar is None else ()),
    }
    return belongs(f"{part}.", missing)
