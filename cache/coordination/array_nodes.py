"""The Zarr metadata of a store's arrays, which the root group's decides and has digests of.

Only other Zarr readers need it: rows are found by the root's layout. Where variants were added to
the root alone, because a command was killed in between or is just doing so, arrays are late.
"""

import json
from collections.abc import Mapping
from typing import Any

from cache.format.checked_json import json_bytes
from cache.format.metadata import METADATA_FILE, Metadata
from cache.format.schema import ArraySpec
from cache.storage.protocol import StorePath
from shared.digests import json_digest
from shared.errors import CacheError


def late_arrays(path: StorePath, metadata: Metadata) -> dict[str, bytes]:
    """Return the metadata that arrays should have and do not have yet, by their names.

    Args:
        path: the store.
        metadata: of its root group.
    """

    def late(spec: ArraySpec) -> bytes | None:
        recorded = metadata.metadata_digests.get(spec.name)
        try:
            node = json.loads((path / spec.name / METADATA_FILE).read_bytes())
            grown = _with_variants(node, metadata.layout.variants)
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None  # damaged, as `feature-cache verify` says
        is_late = json_digest(node) != recorded == json_digest(grown)
        return json_bytes(grown) if is_late else None

    contents = path.for_each(late, metadata.arrays)
    named = zip(metadata.arrays, contents, strict=True)
    return {spec.name: content for spec, content in named if content is not None}


def digests_with_variants(path: StorePath, metadata: Metadata, variants: int) -> dict[str, str]:
    """Return the digests of a store's Zarr metadata, as if its arrays had so many variants.

    Raises:
        CacheError: if the metadata of an array is missing or damaged.
    """

    def digest(spec: ArraySpec) -> str:
        file = path / spec.name / METADATA_FILE
        try:
            return json_digest(_with_variants(json.loads(file.read_bytes()), variants))
        except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
            raise CacheError(
                f"{file} is missing or damaged ({error}), so no variants can be added; restore "
                "this one file from a copy. Nothing was changed."
            ) from error

    digests = path.for_each(digest, metadata.arrays)
    names = (spec.name for spec in metadata.arrays)
    return {**metadata.metadata_digests, **dict(zip(names, digests, strict=True))}


def _with_variants(node: Mapping[str, Any], variants: int) -> dict[str, Any]:
    """Return the metadata of an array with a first axis of this length."""
    return {**node, "shape": [variants, *node["shape"][1:]]}
