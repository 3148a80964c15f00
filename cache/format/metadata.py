"""The attributes of the store's root group: what it is, fixed when it is created.

Everything lies under the key "frozen_cmt", with a checksum over the rest, so that a damaged
`zarr.json` is an error and not another store. Rows are described by the array list, not by the
preset, so that a store can be inspected when a later version has changed the configuration classes.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import cattrs

from cache.format.codec import CODECS
from cache.format.layout import Layout
from cache.format.schema import SCHEMA_VERSION, ArraySpec
from cache.storage.location import StorePath
from shared.config.config_json import from_json, to_json
from shared.config.preset import Preset
from shared.digests import json_digest
from shared.errors import CacheError, ConfigError

ATTRIBUTE = "frozen_cmt"
NULL_GROUP = "null"  # see `cache.coordination.null_store`
METADATA_FILE = "zarr.json"  # of a Zarr v3 group or array


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """How a store came to be; recorded for people, never compared.

    Args:
        command: the line to paste to go on or to repair.
        weights: where the weights came from, e.g. "seeded random weights (seed 0)".
        software: version by package name.
        dataset: the options that chose the samples, for commands that read the same raw data again.
    """

    command: str
    weights: str
    software: dict[str, str]
    dataset: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Metadata:
    """What the root group says.

    Args:
        identity: see `cache.format.identity`.
        preset_document: the resolved preset as JSON.
        provenance, created_at: for people; the time is ISO 8601, UTC.
        layout: variants, samples and slots per shard.
        samples_digest: see `cache.format.samples`.
        max_boxes: boxes a row has room for.
        arrays: every array of a row.
        metadata_digests: digest of the Zarr metadata of every array and group below the root.
        codec: name of the codec of the feature maps.
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

    @property
    def preset(self) -> Preset:
        """The detector the features belong to."""
        return from_json(Preset, self.preset_document)


def to_attributes(metadata: Metadata) -> dict[str, Any]:
    """Return the root group's attributes."""
    document = json.loads(json.dumps(to_json(metadata), allow_nan=False))
    return {ATTRIBUTE: {**document, "checksum": json_digest(document)}}


def metadata_digest_of(path: StorePath, node: str) -> str:
    """Return the digest of the Zarr metadata of one array or group of the store at `path`."""
    return json_digest(json.loads((path / node / METADATA_FILE).read_bytes()))


def with_metadata_digests(metadata: Metadata, path: StorePath, nodes: Iterable[str]) -> Metadata:
    """Fill in `metadata_digests` of these arrays and groups from what lies under `path`."""
    digests = {node: metadata_digest_of(path, node) for node in sorted(nodes)}
    return replace(metadata, metadata_digests=digests)


def read_metadata(path: StorePath) -> Metadata:
    """Read what the store at `path` is.

    Raises:
        CacheError: if it is no store, damaged, or of another schema version.
    """
    file = path / METADATA_FILE
    if not file.is_file():
        raise CacheError(
            f"{path} is not a feature store: it has no {METADATA_FILE}; "
            "`extract-features` makes one"
        )
    damaged = f"{file} is damaged; restore this one file from a copy, the features are not lost"
    try:
        node = json.loads(file.read_bytes())
        if (node["zarr_format"], node["node_type"]) != (3, "group"):
            raise ValueError("it is not the metadata of a Zarr v3 group")
        attributes = node.get("attributes", {})
        document = dict(attributes[ATTRIBUTE]) if ATTRIBUTE in attributes else None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CacheError(f"{damaged} ({error})") from error
    if document is None:
        raise CacheError(f"{path} is a Zarr group, but not a feature store of frozen-cmt")
    if document.pop("checksum", None) != json_digest(document):
        raise CacheError(f"{damaged} (its checksum does not match)")
    if document["schema_version"] != SCHEMA_VERSION:
        raise CacheError(
            f"{path} has schema version {document['schema_version']}, this version of frozen-cmt "
            f"reads {SCHEMA_VERSION}; use the version that wrote it, or extract into another "
            "--store"
        )
    try:
        metadata = from_json(Metadata, document)
    except (ConfigError, cattrs.BaseValidationError) as error:
        raise CacheError(f"{damaged} ({error})") from error
    unknown = {metadata.codec, *(spec.codec for spec in metadata.arrays)} - CODECS.keys()
    if unknown:
        raise CacheError(
            f"{path} is coded as {', '.join(sorted(unknown))}; this version of frozen-cmt reads "
            f"{', '.join(CODECS)}; use the version that wrote it"
        )
    return metadata
