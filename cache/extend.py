"""Adding variants to an existing store: new shards after the old ones, nothing rewritten.

Only metadata changes. The root group's, which decides how many variants there are, first and in one
step; then that of the arrays, which only other Zarr readers need, follows it. After a kill in
between, the next command that opens the store for writing makes the arrays follow.

Commands that do this at the same time wait for each other's lock. On object storage, which has
none, the root group is replaced only if nobody else has done so since it was read, and whoever
finds arrays behind the root makes them follow, until all do: whatever a slower command still puts
is seen by itself.
"""

import json
from dataclasses import replace
from pathlib import Path

from cache.coordination.array_nodes import digests_with_variants, late_arrays
from cache.coordination.ledger import LEDGER_GROUP
from cache.format.checked_json import json_bytes
from cache.format.identity import VARIANT_FIELDS, Identity, without_variants
from cache.format.metadata import (
    METADATA_FILE,
    Metadata,
    Provenance,
    read_metadata,
    to_attributes,
)
from cache.storage.location import as_store_path
from cache.storage.protocol import StorePath, waiting_lock
from shared.errors import IdentityError

LOCK = "extension.lock"


def variants_at(path: Path | StorePath) -> int:
    """Return the variants of the store at `path`, 1 where there is none yet."""
    path = as_store_path(path)
    if not (path / METADATA_FILE).exists():
        return 1
    variants: int = read_metadata(path).identity["variants"]
    return variants


def differs_in_variants_only(path: StorePath, identity: Identity) -> bool:
    """Return whether the store at `path` has this identity but for its variants, or all of it."""
    return without_variants(read_metadata(path).identity) == without_variants(identity)


def refuse_more_variants(path: StorePath, present: int, asked: int) -> None:
    """Make sure that a store does not have more variants than asked for: they are never taken away.

    Raises:
        IdentityError: if it has.
    """
    if present > asked:
        raise IdentityError(
            f"{path} has {present} variants, but {asked} were asked for; variants are never taken "
            "away. Run this command again without --variants to resume the store: another command "
            "may have added variants since this one was started. Nothing was changed."
        )


def extend_variants(path: StorePath, identity: Identity, provenance: Provenance) -> None:
    """Give the store at `path` the variants of `identity`, if they are all that it lacks.

    Does nothing to a store that differs in anything else: `require_identity` says why.

    Args:
        path: an existing store.
        identity: of the requested store.
        provenance: of the command that asks for more variants; it resumes the store from now on.

    Raises:
        CacheError: if the metadata of an array is missing or damaged.
        IdentityError: if the store has more variants than asked for.
    """
    metadata = read_metadata(path)
    if not lacks_variants(path, metadata, identity) and not late_arrays(path, metadata):
        return
    with waiting_lock(path / LEDGER_GROUP / LOCK):
        while _extend_root(path, identity, provenance):
            pass
        while late := late_arrays(path, read_metadata(path)):
            for name, content in late.items():
                (path / name / METADATA_FILE).write_whole([content])


def _extend_root(path: StorePath, identity: Identity, provenance: Provenance) -> bool:
    """Replace the metadata of the root group, if it lacks variants; return whether to look again.

    Where there are no locks another command may be faster; then nothing is replaced.
    """
    file = path / METADATA_FILE
    before = file.read_bytes()
    metadata = read_metadata(path)  # after `before`: if it is newer, `before` is not replaced
    if not lacks_variants(path, metadata, identity):
        return False
    variants = identity["variants"]
    extended = replace(
        metadata,
        identity=identity,
        provenance=provenance,
        layout=replace(metadata.layout, variants=variants),
        metadata_digests=digests_with_variants(path, metadata, variants),
    )
    root = {**json.loads(before), "attributes": to_attributes(extended)}
    return not file.replace_whole(before, json_bytes(root))


def lacks_variants(path: StorePath, metadata: Metadata, identity: Identity) -> bool:
    """Return whether more variants are all that a store lacks to have an identity.

    Raises:
        IdentityError: if it has more variants, and differs in nothing else.
    """
    before = metadata.identity
    differs_otherwise = without_variants(before) != without_variants(identity)
    if before["variants"] == identity["variants"] or differs_otherwise:
        return False
    refuse_more_variants(path, before["variants"], identity["variants"])
    drawn_from = VARIANT_FIELDS[1:]
    return before["variants"] == 1 or all(before[name] == identity[name] for name in drawn_from)
