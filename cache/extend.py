"""More views in a store that exists: new shards behind the old ones, nothing rewritten.

Only metadata changes, file by file, the root group last. A kill in between leaves a store that
reads as before; the same command again finishes.
"""

import json
from dataclasses import replace
from typing import Any

from cache.identity import Identity
from cache.metadata import (
    METADATA_FILE,
    Provenance,
    read_metadata,
    to_attributes,
    with_metadata_digests,
)
from cache.storage import StorePath, write_json
from shared.errors import IdentityError

# Of the identity: what more views may change. A store of one view was drawn from nothing.
OF_VIEWS = ("views", "view_seed", "augmentation")


def views_at(path: StorePath) -> int:
    """Return the views of the store at `path`, 1 where there is none yet."""
    if not (path / METADATA_FILE).exists():
        return 1
    views: int = read_metadata(path).identity["views"]
    return views


def extend_views(path: StorePath, identity: Identity, provenance: Provenance) -> None:
    """Give the store at `path` the views of `identity`, if it has fewer of otherwise the same.

    Does nothing for a store that differs in anything else: `check_identity` says why.

    Args:
        path: an existing store.
        identity: of the wanted store.
        provenance: of the command that asks for more views; it resumes the store from now on.

    Raises:
        IdentityError: if the store has more views than asked for; they are never taken away.
    """
    metadata = read_metadata(path)
    before = metadata.identity
    if before["views"] == identity["views"] or _rest(before) != _rest(identity):
        return
    if before["views"] > identity["views"]:
        raise IdentityError(
            f"{path} has {before['views']} views, asked for are {identity['views']}; views are "
            "never taken away. Leave out --views to go on with it. Nothing was changed."
        )
    if before["views"] > 1 and any(before[name] != identity[name] for name in OF_VIEWS[1:]):
        return
    for spec in metadata.arrays:
        file = path / spec.name / METADATA_FILE
        node = json.loads(file.read_bytes())
        node["shape"][0] = identity["views"]
        write_json(file, node)
    grown = replace(
        metadata,
        identity=identity,
        provenance=provenance,
        layout=replace(metadata.layout, views=identity["views"]),
    )
    file = path / METADATA_FILE
    root = json.loads(file.read_bytes())
    whole = with_metadata_digests(grown, path, metadata.metadata_digests)
    write_json(file, {**root, "attributes": to_attributes(whole)})


def _rest(identity: Identity) -> dict[str, Any]:
    return {name: value for name, value in identity.items() if name not in OF_VIEWS}
