"""The delta stores of a run or an evaluation, by the names of their conditions."""

from collections.abc import Mapping, Sequence

from shared.data.feature_store import ConditionedStore
from shared.errors import ConfigError
from stage2_train.data.dataset import samples_digest


def by_condition(deltas: Sequence[ConditionedStore]) -> dict[str, ConditionedStore]:
    """Return delta stores by the name of their condition, in their order.

    Args:
        deltas: opened beside the clean store that they are of.

    Raises:
        CacheError: if one is incomplete.
        ConfigError: if two are of the same condition.
    """
    stores: dict[str, ConditionedStore] = {}
    for delta in deltas:
        delta.require_complete()
        name = delta.condition.name
        if name in stores:
            raise ConfigError(
                f"{stores[name].path} and {delta.path} are both of the condition {name}; name one "
                "of them"
            )
        stores[name] = delta
    return stores


def require_same_names(
    stores: Mapping[str, ConditionedStore], probabilities: Sequence[tuple[str, float]]
) -> None:
    """Check that the opened delta stores are those of the conditions to train with.

    Args:
        stores: of `by_condition`.
        probabilities: (name, probability) pairs of a recipe.

    Raises:
        ConfigError: if a condition has no store, or a store has no probability.
    """
    wanted = [name for name, _ in probabilities]
    missing = [name for name in wanted if name not in stores]
    if missing:
        raise ConfigError(
            f"the recipe's conditions name {', '.join(missing)}, but --conditions opens "
            f"{', '.join(stores) or 'no delta store'}; name the delta store of each condition"
        )
    unused = [name for name in stores if name not in wanted]
    if unused:
        pairs = ",".join(f"{name}:{0.5 / len(stores):g}" for name in stores)
        raise ConfigError(
            f"{', '.join(str(stores[name].path) for name in unused)}: the recipe gives "
            f"{', '.join(unused)} no probability, so this would never be read; set it, for example "
            f"--set conditions={pairs}, or leave the store out"
        )


def content_digests(stores: Mapping[str, ConditionedStore]) -> dict[str, str]:
    """Return what must not change while a run reads delta stores, by condition."""
    return {name: samples_digest(delta) for name, delta in stores.items()}
