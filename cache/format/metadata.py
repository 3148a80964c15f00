"""The attributes of the store's root group: what the store is, fixed when it is created.

Everything is under the key "frozen_cmt", with a checksum, so that a damaged `zarr.json` is an error
and not a different store. Rows are described by the list of arrays, not by the preset, so that a
store can be inspected after a later version has changed the configuration classes.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cache.format.checked_json import add_checksum, remove_checksum
from cache.format.codec import CODECS
from cache.format.layout import Layout
from cache.format.schema import SCHEMA_VERSION, ArraySpec
from cache.storage.protocol import StorePath
from shared.config.config_json import from_json
from shared.config.preset import Preset
from shared.digests import BLAKE3, SHA256, json_digest
from shared.errors import CacheError, ConfigError
from shared.wording import did_you_mean

ATTRIBUTE = "frozen_cmt"
NULL_GROUP = "null"  # see `cache.coordination.null_store`
METADATA_FILE = "zarr.json"  # of a Zarr v3 group or array
DELTA_FILE = "delta.json"  # instead of it, of a delta store, see `cache.delta.delta_metadata`


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """How a store was made; recorded for people, never compared.

    Args:
        command: the line to paste to resume or repair the extraction.
        weights: where the weights came from, e.g. "seeded random weights (seed 0)".
        software: version by package name.
        dataset: the options that chose the samples, for commands that read the same raw data again.
        device: that computed the features, see `shared.process.device.device_name`; "" in stores
            from before this was recorded. A worker that joins later may have a different one.
    """

    command: str
    weights: str
    software: dict[str, str]
    dataset: dict[str, Any] = field(default_factory=dict)
    device: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Metadata:
    """The content of the root group's attributes.

    Args:
        identity: see `cache.format.identity`.
        preset_document: the resolved preset as JSON.
        provenance, created_at: for people; the time is ISO 8601, UTC.
        layout: variants, samples and slots per shard.
        samples_digest: see `cache.format.samples`.
        max_boxes: most boxes that a row can hold.
        arrays: every array of a row.
        metadata_digests: digest of the Zarr metadata of every array and group below the root.
        codec: name of the codec of the feature maps.
        digest_algorithm: of the rows, see `schema.row_digest`; `SHA256` in stores from before this
            was recorded.
    """

    schema_version: int = SCHEMA_VERSION
    identity: dict[str, Any]
    preset_document: dict[str, Any]
    provenance: Provenance
    created_at: str
    layout: Layout
    samples_digest: str
    max_boxes: int
    arrays: tuple[ArraySpec, ...]
    metadata_digests: dict[str, str]
    codec: str
    digest_algorithm: str = SHA256

    @property
    def preset(self) -> Preset:
        """The detector the features belong to."""
        return from_json(Preset, self.preset_document)


def to_attributes(metadata: Metadata) -> dict[str, Any]:
    """Return the root group's attributes."""
    return {ATTRIBUTE: add_checksum(metadata)}


def metadata_digest_of(path: Path | StorePath, node: str) -> str:
    """Return the digest of the Zarr metadata of an array or group of the store at `path`."""
    return json_digest(json.loads((path / node / METADATA_FILE).read_bytes()))


def with_metadata_digests(
    metadata: Metadata, path: Path | StorePath, nodes: Iterable[str]
) -> Metadata:
    """Fill in `metadata_digests` for these arrays and groups, as they are under `path`."""
    digests = {node: metadata_digest_of(path, node) for node in sorted(nodes)}
    return replace(metadata, metadata_digests=digests)


def nothing_at(path: StorePath) -> str:
    """Say that there is nothing at `path`, and what is called nearly so beside it."""
    beside = path.parent.names() if path.creates_at_once and path.parent.is_dir() else ()
    hint = did_you_mean(path.name, (name for name in beside if not name.startswith(".")))
    return f"{path} is not a feature store: there is nothing; " + (
        hint or "`extract-features` makes one"
    )


def read_metadata(path: StorePath) -> Metadata:
    """Read the metadata of the store at `path`.

    Raises:
        CacheError: if it is not a store, is damaged, or has a different schema version.
    """
    file = path / METADATA_FILE
    if not file.is_file():
        if (path / DELTA_FILE).is_file():
            raise CacheError(
                f"{path} is a delta store: it holds only what a condition changes, and cannot be "
                "read without the store it was made from. Name that store here, and the delta "
                f"where conditions are asked for; `feature-cache show {path}` names it"
            )
        if not path.exists():
            raise CacheError(nothing_at(path))
        raise CacheError(
            f"{path} is not a feature store: it has no {METADATA_FILE}; "
            "`extract-features` makes one"
        )
    damaged = f"{file} is damaged; restore this one file from a copy, the features are not lost"
    try:
        node = json.loads(file.read_bytes())
        if (node["zarr_format"], node["node_type"]) != (3, "group"):
            raise ValueError("it is not the metadata of a Zarr v3 group")
        attributes = dict(node.get("attributes", {}))
        if ATTRIBUTE not in attributes:
            raise CacheError(f"{path} is a Zarr group, but not a feature store of frozen-cmt")
        document = remove_checksum(attributes[ATTRIBUTE])
    except (ValueError, KeyError, TypeError) as error:
        raise CacheError(f"{damaged} ({error})") from error
    _require_version(path, document["schema_version"])
    try:
        metadata = from_json(Metadata, document)
    except ConfigError as error:
        raise CacheError(f"{damaged} ({error})") from error
    unknown = {metadata.codec, *(spec.codec for spec in metadata.arrays)} - CODECS.keys()
    if unknown:
        raise CacheError(
            f"{path} is coded as {', '.join(sorted(unknown))}; this version of frozen-cmt reads "
            f"{', '.join(CODECS)}; use the version that wrote it"
        )
    if metadata.digest_algorithm not in (SHA256, BLAKE3):
        raise CacheError(
            f"{path} has digests made by {metadata.digest_algorithm}; this version of frozen-cmt "
            f"knows {SHA256} and {BLAKE3}; use the version that wrote it"
        )
    return metadata


def _require_version(path: StorePath, version: int) -> None:
    """Make sure that this version of the software reads a schema version."""
    if version != SCHEMA_VERSION:
        release = "older" if version < SCHEMA_VERSION else "newer"
        raise CacheError(
            f"{path} is a feature store of schema version {version}; this version of frozen-cmt "
            f"reads version {SCHEMA_VERSION}. Extract the features again into a different --store, "
            f"or use the {release} release of frozen-cmt that wrote this one. Nothing was changed."
        )
