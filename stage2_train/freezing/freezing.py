"""Parts of a module that are not trained: no gradient, and BatchNorm in eval mode.

A part is the common beginning of the names of its parameters, buffers and modules. `freeze_proof`
shows that they do not change.
"""

from collections.abc import Iterator, Sequence

from torch import nn

from shared.checkpoint.checkpoint_table import belongs
from shared.data.feature_store import FeatureStore
from shared.errors import ConfigError
from shared.model.detector import CmtDetector
from stage2_train.recipes.recipe import Recipe


def require_trainable(recipe: Recipe, store: FeatureStore) -> None:
    """Check that the recipe trains nothing that lies before the store's cut.

    Raises:
        ConfigError: naming the parts.
    """
    wanted = [part for part in store.cut.frozen_parts if not belongs(f"{part}.", recipe.frozen)]
    if wanted:
        raise ConfigError(
            f"{store.path} is cut at {store.cut}: {', '.join(wanted)} went into its features and "
            f"can no longer change, but recipe {recipe.name} trains them. Use a recipe that "
            "freezes them (frozen_all for the necks), or a store with the cut `backbone`"
        )


def absent_parts(detector: CmtDetector) -> set[str]:
    """Return the parts that lie before the cut, or belong to a sensor the preset lacks."""
    preset = detector.preset
    return {
        *detector.cut.frozen_parts,
        *(("img_neck",) if preset.camera is None else ()),
        *(("pts_neck", "pts_bbox_head.shared_conv") if preset.lidar is None else ()),
    }


def freeze(module: nn.Module, parts: Sequence[str], *, absent: Sequence[str] = ()) -> None:
    """Turn off the gradients of these parts and put them in eval mode.

    Args:
        module: holds the parts.
        parts: beginnings of names.
        absent: parts that may be missing.

    Raises:
        ConfigError: if a part is neither in the module nor absent.
    """
    for part in parts:
        parameters = [values for name, values in module.named_parameters() if belongs(name, [part])]
        if not parameters and not belongs(f"{part}.", absent):
            raise ConfigError(
                f"the recipe freezes {part!r}, but no parameter's name begins with it; see "
                "`named_parameters()` of the model"
            )
        for parameter in parameters:
            parameter.requires_grad_(False)
    eval_frozen(module, parts)


def eval_frozen(module: nn.Module, parts: Sequence[str]) -> None:
    """Return these parts to eval mode after `train()`, in which BatchNorm would change."""
    for _, submodule in modules_of(module, parts):
        submodule.eval()


def modules_of(module: nn.Module, parts: Sequence[str]) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules that are these parts or belong to them, with their names."""
    for name, submodule in module.named_modules():
        if belongs(f"{name}.", parts):
            yield name, submodule
