"""Creating a store, in a single step, and opening it again to resume.

A store is built in a temporary directory and put in place when it is complete. A kill before that
leaves that directory (a few kilobytes, `.NAME.creating-...`), never half a store. On object storage
and in a folder that exists, files are put one by one, `zarr.json` of the root last: without it the
others are not a store.
"""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import zarr

from cache.coordination.ledger import ABOUT, LEDGER_GROUP
from cache.coordination.store import open_store
from cache.extend import differs_in_variants_only, extend_variants, lacks_variants
from cache.format.codec import CODECS, DEFAULT_CODEC
from cache.format.identity import Identity, require_identity
from cache.format.layout import SHARD_BYTES, Layout, slots_per_shard
from cache.format.metadata import (
    DELTA_FILE,
    METADATA_FILE,
    Metadata,
    Provenance,
    read_metadata,
    to_attributes,
    with_metadata_digests,
)
from cache.format.samples import Samples, write_samples
from cache.format.schema import ArraySpec, array_specs, row_bytes
from cache.storage.location import as_store_path
from cache.storage.protocol import StorePath
from cache.verification.check_sources import UNKNOWN_SOURCES, require_same_sources
from cache.writer import StoreWriter
from shared.config.config_json import to_json
from shared.config.cut import parse_cut
from shared.config.preset import Preset
from shared.digests import BLAKE3
from shared.errors import CacheError

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreSpec:
    """A store to create, or to resume if it exists.

    Args:
        preset: decides the feature maps.
        identity: from `identity_document`; its `variants` is the size of the first axis.
        samples: every sample that the store will hold, in order.
        max_boxes: most boxes of any sample; space for at least 1 is reserved.
        provenance: recorded for people.
        codec: of the feature maps, see `cache.format.codec`; fits the identity's value format.
        shard_bytes: uncompressed size of a shard, all arrays together.
        rows_at_once: of which a shard holds a multiple, see `slots_per_shard`.
        root: dataset root; the sensor files of finished rows have to be the same there.
        arrays: of a row; by default those that the preset, its cut and the codec need.
    """

    preset: Preset
    identity: Identity
    samples: Samples
    max_boxes: int
    provenance: Provenance
    codec: str = DEFAULT_CODEC
    shard_bytes: int = SHARD_BYTES
    rows_at_once: int = 1
    root: Path | None = None
    arrays: tuple[ArraySpec, ...] | None = None

    def __post_init__(self) -> None:
        assert self.identity["value_format"] == CODECS[self.codec].value_format

    def metadata(self) -> Metadata:
        """Return the metadata of the new store, before there are arrays to be digested."""
        max_boxes, count = max(1, self.max_boxes), len(self.samples.tokens)
        arrays = self.arrays or array_specs(
            self.preset, max_boxes, self.codec, parse_cut(self.identity["cut"])
        )
        slots = slots_per_shard(row_bytes(arrays), count, self.shard_bytes, self.rows_at_once)
        return Metadata(
            identity=self.identity,
            preset_document=to_json(self.preset),
            provenance=self.provenance,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            layout=Layout(variants=self.identity["variants"], samples=count, slots=slots),
            samples_digest=self.samples.digest,
            max_boxes=max_boxes,
            arrays=arrays,
            codec=self.codec,
            digest_algorithm=BLAKE3,
            metadata_digests={},
        )


def open_or_create(path: Path | StorePath, spec: StoreSpec) -> StoreWriter:
    """Return a writer for the store at `path`, creating it if there is none.

    Raises:
        IdentityError: if the store there was not made from the same, as its identity says or as
            the sensor files of finished rows show; it is left as it is.
        CacheError: if there is something other than a store, or the store has a different codec.
        DatasetError: if a sensor file of a finished row cannot be read.
    """
    path = as_store_path(path)
    if (path / DELTA_FILE).is_file():
        raise CacheError(
            f"{path} is a delta store; to resume it, give the --condition and --base that it was "
            f"made with (`feature-cache show {path}` has the command), or choose a different "
            "--store. Nothing was changed."
        )
    if not (path / METADATA_FILE).exists():
        create_store(path, spec)
    elif spec.root is not None and differs_in_variants_only(path, spec.identity):
        _check_sources(path, spec.root)
    extend_variants(path, spec.identity, spec.provenance)
    writer = StoreWriter(path)
    metadata = writer.store.metadata  # as opened, not as we left it: another may have been faster
    lacks_variants(path, metadata, spec.identity)  # an error if it has more
    require_identity(path, metadata.identity, spec.identity)
    if metadata.codec != spec.codec:
        raise CacheError(
            f"{path} is coded as {metadata.codec}, but {spec.codec} was asked for; a store has one "
            "codec. Leave out --codec to resume it, or choose a different --store. Nothing was "
            "changed."
        )
    _warn_about_versions(metadata.provenance.software, spec.provenance.software, path)
    return writer


def codec_at(path: Path | StorePath) -> str:
    """Return the codec of the store at `path`, or the default where there is none yet."""
    path = as_store_path(path)
    return read_metadata(path).codec if (path / METADATA_FILE).exists() else DEFAULT_CODEC


def create_store(path: StorePath, spec: StoreSpec) -> None:
    """Create an empty store; if another worker was faster, leave its store.

    Args:
        path: where; there must be nothing, or an empty directory.
        spec: the store.

    Raises:
        CacheError: if there is something else at `path`.
    """
    try:
        with path.creating(METADATA_FILE) as building:
            _build(building, spec.metadata(), spec.samples)
    except OSError as error:
        raise CacheError(f"cannot create {path}: {error}") from error


def _build(path: Path, metadata: Metadata, samples: Samples) -> None:
    """Write everything but rows, the root's attributes last."""
    root = zarr.create_group(path)
    write_samples(root, samples)
    for spec in metadata.arrays:
        _create_array(root, spec, metadata.layout)
    root.create_array(
        LEDGER_GROUP, shape=(1,), chunks=(1,), dtype="uint8", attributes={"about": ABOUT}
    )
    nodes = {file.parent.relative_to(path).as_posix() for file in path.rglob(METADATA_FILE)} - {"."}
    root.update_attributes(to_attributes(with_metadata_digests(metadata, path, nodes)))


def _create_array(root: zarr.Group, spec: ArraySpec, layout: Layout) -> None:
    codecs = CODECS[spec.codec].in_zarr(np.dtype(spec.dtype).itemsize)
    root.create_array(
        spec.name,
        shape=(layout.variants, layout.samples, *spec.shape),
        chunks=(1, 1, *spec.shape),
        shards=(1, layout.slots, *spec.shape),
        dtype=spec.dtype,
        fill_value=spec.fill_value,
        serializer=codecs.serializer,
        compressors=codecs.compressors,
        chunk_key_encoding={"name": "default", "separator": "."},  # files, not deep directories
        dimension_names=("variant", "sample", *spec.dims),
        attributes={"about": spec.about} if spec.about else {},
    )


def _check_sources(path: StorePath, root: Path) -> None:
    rows = require_same_sources(open_store(path), root)
    if rows.compared:
        _log.info(
            "the sensor files of %d finished rows are still those that they were made from",
            rows.compared,
        )
    if rows.unknown:
        _log.warning(
            "%d finished rows of %s cannot be compared with their sensor files: they were %s",
            rows.unknown,
            path,
            UNKNOWN_SOURCES,
        )


def _warn_about_versions(then: dict[str, str], now: dict[str, str], path: StorePath) -> None:
    changed = [
        f"{name} {then[name]} -> {now[name]}"
        for name in then
        if name in now and now[name] != then[name]
    ]
    if changed:
        _log.warning("%s was created with different versions: %s", path, ", ".join(changed))
