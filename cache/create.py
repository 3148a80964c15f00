"""Creating a store, at once or not at all, and opening it again to go on.

A store is built in a directory beside its final place and renamed. A kill in between leaves that
directory (a few kilobytes, `.NAME.creating-...`), never half a store. On an object storage files
are put one by one, `zarr.json` of the root last: without it the others are no store.
"""

import json
import logging
import os
import shutil
import tempfile
import uuid
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import zarr

from cache.coordination.ledger import ABOUT, GROUP
from cache.extend import extend_variants
from cache.format.codec import CODECS, DEFAULT_CODEC
from cache.format.identity import Identity, check_identity
from cache.format.layout import SHARD_BYTES, Layout, slots_per_shard
from cache.format.metadata import (
    METADATA_FILE,
    Metadata,
    Provenance,
    read_metadata,
    to_attributes,
    with_metadata_digests,
)
from cache.format.samples import Samples, write_samples
from cache.format.schema import ArraySpec, array_specs, row_bytes
from cache.storage.location import StorePath, create_json
from cache.storage.object_path import ObjectPath
from cache.writer import StoreWriter
from shared.config.config_json import to_json
from shared.config.cut import parse_cut
from shared.config.preset import Preset
from shared.errors import CacheError
from shared.process.whole_file import sync_directory

_log = logging.getLogger(__name__)


def open_or_create(
    path: StorePath,
    *,
    preset: Preset,
    identity: Identity,
    samples: Samples,
    max_boxes: int,
    provenance: Provenance,
    codec: str = DEFAULT_CODEC,
    shard_bytes: int = SHARD_BYTES,
) -> StoreWriter:
    """Return a writer for the store at `path`: a new one, or the one to go on with.

    Args: see `create_store`.

    Raises:
        IdentityError: if the store there was made from something else; it is left as it is.
        CacheError: if something else than a store is there, or the store has another codec.
    """
    if not (path / METADATA_FILE).exists():
        create_store(
            path,
            preset=preset,
            identity=identity,
            samples=samples,
            max_boxes=max_boxes,
            provenance=provenance,
            codec=codec,
            shard_bytes=shard_bytes,
        )
    extend_variants(path, identity, provenance)
    check_identity(path, identity)  # also of our own: another worker may have been faster
    metadata = read_metadata(path)
    if metadata.codec != codec:
        raise CacheError(
            f"{path} is coded as {metadata.codec}, asked for is {codec}; a store has one codec. "
            "Leave out --codec to go on with it, or choose another --store. Nothing was changed."
        )
    _warn_about_versions(metadata.provenance.software, provenance.software, path)
    return StoreWriter(path)


def codec_at(path: StorePath) -> str:
    """Return the codec of the store at `path`, or the default where there is none yet."""
    return read_metadata(path).codec if (path / METADATA_FILE).exists() else DEFAULT_CODEC


def create_store(
    path: StorePath,
    *,
    preset: Preset,
    identity: Identity,
    samples: Samples,
    max_boxes: int,
    provenance: Provenance,
    codec: str = DEFAULT_CODEC,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Create an empty store; if a worker beside this one was faster, leave its store.

    Args:
        path: where; nothing, or an empty directory, may be there.
        preset: decides the feature maps.
        identity: from `identity_document`; its `variants` is the size of the first axis.
        samples: every sample the store will hold, in order.
        max_boxes: most boxes of any sample; at least 1 is kept.
        provenance: recorded for people.
        codec: of the feature maps, see `cache.format.codec`; the identity has its storage.
        shard_bytes: uncompressed size of a shard, all arrays together.

    Raises:
        CacheError: if something else is at `path`.
    """
    assert identity["storage"] == CODECS[codec].storage
    arrays = array_specs(preset, max(1, max_boxes), codec, parse_cut(identity["cut"]))
    count = len(samples.tokens)
    slots = slots_per_shard(row_bytes(arrays), count, shard_bytes)
    metadata = Metadata(
        identity=identity,
        preset_document=to_json(preset),
        provenance=provenance,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        layout=Layout(variants=identity["variants"], samples=count, slots=slots),
        samples_digest=samples.digest,
        max_boxes=max(1, max_boxes),
        arrays=arrays,
        codec=codec,
        metadata_digests={},
    )
    try:
        if isinstance(path, ObjectPath):
            _create_remotely(path, metadata, samples)
        else:
            _create_locally(path, metadata, samples)
    except OSError as error:
        raise CacheError(f"cannot create {path}: {error}") from error


def _create_locally(path: Path, metadata: Metadata, samples: Samples) -> None:
    _refuse_foreign(path)
    building = path.with_name(f".{path.name}.creating-{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _build(building, metadata, samples)
        _rename_unless_taken(building, path)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _create_remotely(path: ObjectPath, metadata: Metadata, samples: Samples) -> None:
    """Put what a new store holds; what an interrupted creation left is replaced."""
    with tempfile.TemporaryDirectory() as scratch:
        building = Path(scratch) / "store"
        _build(building, metadata, samples)
        files = {str(file.relative_to(building)): file for file in building.rglob("*")}
        there = path.sizes().keys()
        if METADATA_FILE in there:
            return  # a store that appeared meanwhile wins, as it does at the end
        if path.is_file() or not there <= files.keys():
            raise CacheError(
                f"there is something else than a feature store at {path}; choose another --store. "
                "Nothing was changed."
            )
        root = json.loads(files.pop(METADATA_FILE).read_bytes())
        for key, file in files.items():
            if file.is_file():
                (path / key).write_bytes(file.read_bytes())
        create_json(path / METADATA_FILE, root)


def _refuse_foreign(path: Path) -> None:
    """Raise if there is something at `path` that must not be touched."""
    if path.is_dir():
        if any(path.iterdir()):
            raise CacheError(
                f"{path} is not empty and not a feature store; choose another --store. "
                "Nothing was changed."
            )
    elif path.exists() or path.is_symlink():
        raise CacheError(f"{path} is a file, not a feature store; choose another --store")


def _build(path: Path, metadata: Metadata, samples: Samples) -> None:
    """Write everything but rows, the root's attributes last."""
    root = zarr.create_group(path)
    write_samples(root, samples)
    for spec in metadata.arrays:
        _create_array(root, spec, metadata.layout)
    root.create_array(GROUP, shape=(1,), chunks=(1,), dtype="uint8", attributes={"about": ABOUT})
    nodes = {file.parent.relative_to(path).as_posix() for file in path.rglob(METADATA_FILE)} - {"."}
    root.update_attributes(to_attributes(with_metadata_digests(metadata, path, nodes)))
    for directory, _, files in os.walk(path):
        for name in files:
            with (Path(directory) / name).open("rb") as file:
                os.fsync(file.fileno())
        sync_directory(Path(directory))


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


def _rename_unless_taken(building: Path, path: Path) -> None:
    """Put the new store in place; a store that appeared meanwhile wins."""
    try:
        building.rename(path)
    except OSError:
        if not (path / METADATA_FILE).exists():
            raise
        return
    sync_directory(path.parent)


def _warn_about_versions(then: dict[str, str], now: dict[str, str], path: StorePath) -> None:
    changed = [
        f"{name} {then[name]} -> {now[name]}"
        for name in then
        if name in now and now[name] != then[name]
    ]
    if changed:
        _log.warning("%s was begun with other versions: %s", path, ", ".join(changed))
