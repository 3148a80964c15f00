"""Opens a delta store beside its base, and refuses every pair that would give wrong features."""

from pathlib import Path

from cache.coordination.store import Store
from cache.delta.conditioned_features import ConditionedFeatures
from cache.delta.delta_changes import require_change
from cache.delta.delta_metadata import DeltaMetadata, finish_command, read_delta
from cache.delta.delta_rows import open_parts
from cache.format.identity import explain_difference
from cache.inspection.parity_record import has_content
from cache.reader import CachedFeatures
from cache.storage.location import as_store_path
from cache.storage.protocol import StorePath
from shared.config.classes import CAMERAS
from shared.errors import CacheError, IdentityError


def open_delta(path: Path | StorePath, base: CachedFeatures) -> ConditionedFeatures:
    """Open a finished delta store together with its base.

    Args:
        path: the delta store.
        base: the store that it was made from, or a copy of it.

    Raises:
        IdentityError: if the delta was made from a different store, or the base has changed since.
        CacheError: if it is no delta store, was made by software with a different order of cameras,
            is not finished, or changes nothing although it is meant to.
    """
    path = as_store_path(path)
    metadata = read_delta(path)
    require_same_views(path, metadata)
    require_base(path, metadata, base.store)
    parts = open_parts(path, metadata)
    for store in parts.values():
        _require_complete(path, store, metadata)
    conditioned = ConditionedFeatures(path, metadata, parts, base)
    require_change(conditioned)
    return conditioned


def require_same_views(path: StorePath, metadata: DeltaMetadata) -> None:
    """Make sure that the views of a delta are in this software's order of cameras.

    Raises:
        CacheError: if not.
    """
    if metadata.cameras != CAMERAS:
        raise CacheError(
            f"{path} was made with the view order {', '.join(metadata.cameras)}, this version of "
            f"frozen-cmt has {', '.join(CAMERAS)}: views would get each other's features. Extract "
            "the delta again with this version, into a different --store"
        )


def require_base(path: StorePath, metadata: DeltaMetadata, base: Store) -> None:
    """Make sure that a store is the base of a delta, with the content that it had then.

    Raises:
        IdentityError: if not.
    """
    identity = base.metadata.identity
    command = finish_command(path, metadata)
    before, now = metadata.base_identity["variants"], identity["variants"]
    if before != now:
        raise IdentityError(
            f"{path} has {before} variants per sample, and {base.path} has {now}: variants were "
            f"added since, or it is not its base, which was {metadata.base_path}. Extract the "
            f"delta again into a different --store, as with: {command}"
        )
    differences = explain_difference(
        metadata.base_identity, identity, names=("in the base of the delta", f"in {base.path}")
    )
    if differences:
        raise IdentityError(
            f"{path} is a delta of a different store: it was made from {metadata.base_path}, not "
            f"from {base.path}:\n  " + "\n  ".join(differences) + "\nOpen it with its own base"
        )
    if not has_content(base, metadata.base):
        raise IdentityError(
            f"{base.path} was rebuilt since the delta {path} was made from it: its identity is the "
            "same, its content is not (or is not complete), so the two do not belong together. "
            f"Extract the delta again into a different --store, as with: {command}"
        )


def _require_complete(path: StorePath, store: Store, metadata: DeltaMetadata) -> None:
    left = store.layout.rows - store.rows_in(store.ledger.complete())
    if left:
        raise CacheError(
            f"{path} is not finished: {left} of {store.layout.rows} rows of {store.path} are "
            f"missing. Finish it with: {finish_command(path, metadata)}"
        )
