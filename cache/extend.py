"""Adding variants to an existing store: new shards after the old ones, nothing rewritten.

Only metadata changes, file by file, the root group last. A kill in between leaves a store that
reads as before; running the same command again finishes the change.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from cache.format.checked_json import json_bytes
from cache.format.identity import Identity
from cache.format.metadata import (
    METADATA_FILE,
    Provenance,
    read_metadata,
    to_attributes,
    with_metadata_digests,
)
from cache.storage.location import as_store_path
from cache.storage.protocol import StorePath
from shared.errors import IdentityError

# The fields of the identity that may change. A store of one variant was not drawn from anything.
VARIANT_FIELDS = ("variants", "variant_seed", "augmentation")


def variants_at(path: Path | StorePath) -> int:
    """Return the variants of the store at `path`, 1 where there is none yet."""
    path = as_store_path(path)
    if not (path / METADATA_FILE).exists():
        return 1
    variants: int = read_metadata(path).identity["variants"]
    return variants


def differs_in_variants_only(path: StorePath, identity: Identity) -> bool:
    """Return whether the store at `path` has this identity but for its variants, or all of it."""
    return _rest(read_metadata(path).identity) == _rest(identity)


def extend_variants(path: StorePath, identity: Identity, provenance: Provenance) -> None:
    """Give the store at `path` the variants of `identity`, if they are all that it lacks.

    Does nothing to a store that differs in anything else: `check_identity` says why.

    Args:
        path: an existing store.
        identity: of the requested store.
        provenance: of the command that asks for more variants; it resumes the store from now on.

    Raises:
        IdentityError: if the store has more variants than asked for; they are never taken away.
    """
    metadata = read_metadata(path)
    before = metadata.identity
    if before["variants"] == identity["variants"] or _rest(before) != _rest(identity):
        return
    if before["variants"] > identity["variants"]:
        raise IdentityError(
            f"{path} has {before['variants']} variants, but {identity['variants']} were asked for; "
            "variants are never taken away. Leave out --variants to resume it. Nothing was changed."
        )
    drawn_from = VARIANT_FIELDS[1:]
    if before["variants"] > 1 and any(before[name] != identity[name] for name in drawn_from):
        return
    for spec in metadata.arrays:
        file = path / spec.name / METADATA_FILE
        node = json.loads(file.read_bytes())
        node["shape"][0] = identity["variants"]
        file.write_whole([json_bytes(node)])
    extended = replace(
        metadata,
        identity=identity,
        provenance=provenance,
        layout=replace(metadata.layout, variants=identity["variants"]),
    )
    file = path / METADATA_FILE
    root = json.loads(file.read_bytes())
    digested = with_metadata_digests(extended, path, metadata.metadata_digests)
    file.write_whole([json_bytes({**root, "attributes": to_attributes(digested)})])


def _rest(identity: Identity) -> dict[str, Any]:
    return {name: value for name, value in identity.items() if name not in VARIANT_FIELDS}
