"""Whether a delta changes anything: a condition that silently did nothing must not be judged."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.delta.conditioned_features import ConditionedFeatures
from cache.delta.map_slices import empty_maps
from shared.data.features import MapValues
from shared.data.map_arrays import map_parts
from shared.errors import CacheError


def require_change(conditioned: ConditionedFeatures) -> None:
    """Make sure that a delta differs from its base; usually the first row shows it.

    Raises:
        CacheError: if all its rows are those of the base, and the condition is not meant so.
    """
    metadata = conditioned.metadata
    if metadata.may_change_nothing or metadata.plan.changes_by_itself:
        return
    rows = 0
    for is_changed in compared_samples(conditioned):
        if is_changed:
            return
        rows += 1
    raise CacheError(
        f"{conditioned.path} equals the clean store {conditioned.base.path}: in {rows} samples "
        f"condition {metadata.condition.name} changed no value, so judging it would be judging "
        "clean data. Check the condition, or let it say `may_change_nothing`"
    )


def compared_samples(conditioned: ConditionedFeatures) -> Iterator[bool]:
    """Yield for every sample and variant that has rows in the delta whether it is changed."""
    plan, tokens = conditioned.metadata.plan, conditioned.base.store.samples.tokens
    touched = {place for place, _ in plan.rows(tuple(plan.sensors))}
    places = range(plan.samples) if plan.has_geometry else sorted(touched)
    clean, changed = (empty_maps(conditioned.blank_maps) for _ in range(2))
    for place in places:
        for variant in range(conditioned.variants):
            before = conditioned.base.read_into(clean, tokens[place], variant)
            after = conditioned.read_into(changed, tokens[place], variant)
            is_same = _bytes_equal(before.img_from_lidar, after.img_from_lidar)
            yield not (is_same and _same_maps(clean, changed))


def _same_maps(clean: Mapping[str, MapValues], changed: Mapping[str, MapValues]) -> bool:
    return all(
        _bytes_equal(mine, theirs)
        for name, values in clean.items()
        for mine, theirs in zip(map_parts(values), map_parts(changed[name]), strict=True)
    )


def _bytes_equal(mine: NDArray[Any], theirs: NDArray[Any]) -> bool:
    """Compare bit for bit."""
    return bool((mine.view(np.uint8) == theirs.view(np.uint8)).all())
