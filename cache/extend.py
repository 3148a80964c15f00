"""More variants in a store that exists: new shards behind the old ones, nothing rewritten.

Only metadata changes, file by file, the root group last. A kill in between leaves a store that
reads as before; the same command again finishes.
"""

import json
from dataclasses import replace
from typing import Any

from cache.format.identity import Identity
from cache.format.metadata import (
    METADATA_FILE,
    Provenance,
    read_metadata,
    to_attributes,
    with_metadata_digests,
)
from cache.storage.location import StorePath, write_json
from shared.errors import IdentityError

# Of the identity: what more variants may change. A store of one variant was drawn from nothing.
OF_VARIANTS = ("variants", "variant_seed", "augmentation")


def variants_at(path: StorePath) -> int:
    """Return the variants of the store at `path`, 1 where there is none yet."""
    if not (path / METADATA_FILE).exists():
        return 1
    variants: int = read_metadata(path).identity["variants"]
    return variants


def extend_variants(path: StorePath, identity: Identity, provenance: Provenance) -> None:
    """Give the store at `path` the variants of `identity`, if it has fewer of otherwise the same.

    Does nothing for a store that differs in anything else: `check_identity` says why.

    Args:
        path: an existing store.
        identity: of the wanted store.
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
            f"{path} has {before['variants']} variants, asked for are {identity['variants']}; variants are "
            "never taken away. Leave out --variants to go on with it. Nothing was changed."
        )
    if before["variants"] > 1 and any(before[name] != identity[name] for name in OF_VARIANTS[1:]):
        return
    for spec in metadata.arrays:
        file = path / spec.name / METADATA_FILE
        node = json.loads(file.read_bytes())
        node["shape"][0] = identity["variants"]
        write_json(file, node)
    grown = replace(
        metadata,
        identity=identity,
        provenance=provenance,
        layout=replace(metadata.layout, variants=identity["variants"]),
    )
    file = path / METADATA_FILE
    root = json.loads(file.read_bytes())
    whole = with_metadata_digests(grown, path, metadata.metadata_digests)
    write_json(file, {**root, "attributes": to_attributes(whole)})


def _rest(identity: Identity) -> dict[str, Any]:
    return {name: value for name, value in identity.items() if name not in OF_VARIANTS}
