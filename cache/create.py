"""Creating a store, at once or not at all, and opening it again to go on.

A store is built in a directory beside its final place and renamed. A kill in between leaves that
directory (a few kilobytes, `.NAME.creating-...`), never half a store.
"""

import logging
import os
import shutil
import uuid
from datetime import UTC, datetime
from pathlib import Path

import zarr

from cache.codec import array_codecs
from cache.identity import Identity, check_identity
from cache.layout import SHARD_BYTES, Layout, slots_per_shard
from cache.ledger import ABOUT, GROUP
from cache.metadata import (
    METADATA_FILE,
    Metadata,
    Provenance,
    read_metadata,
    to_attributes,
    with_metadata_digests,
)
from cache.samples import Samples, write_samples
from cache.schema import ArraySpec, array_specs, row_bytes
from cache.shard_file import sync_directory
from cache.writer import StoreWriter
from shared.config import Preset
from shared.config_json import to_json
from shared.errors import CacheError

_log = logging.getLogger(__name__)


def open_or_create(
    path: Path,
    *,
    preset: Preset,
    identity: Identity,
    samples: Samples,
    max_boxes: int,
    provenance: Provenance,
    shard_bytes: int = SHARD_BYTES,
) -> StoreWriter:
    """Return a writer for the store at `path`: a new one, or the one to go on with.

    Args: see `create_store`.

    Raises:
        IdentityError: if the store there was made from something else; it is left as it is.
        CacheError: if something else than a store is there.
    """
    if not (path / METADATA_FILE).exists():
        create_store(
            path,
            preset=preset,
            identity=identity,
            samples=samples,
            max_boxes=max_boxes,
            provenance=provenance,
            shard_bytes=shard_bytes,
        )
    check_identity(path, identity)  # also of our own: another worker may have been faster
    _warn_about_versions(read_metadata(path).provenance.software, provenance.software, path)
    return StoreWriter(path)


def create_store(
    path: Path,
    *,
    preset: Preset,
    identity: Identity,
    samples: Samples,
    max_boxes: int,
    provenance: Provenance,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Create an empty store; if a worker beside this one was faster, leave its store.

    Args:
        path: where; nothing, or an empty directory, may be there.
        preset: decides the feature maps.
        identity: from `identity_document`; its `views` is the size of the first axis.
        samples: every sample the store will hold, in order.
        max_boxes: most boxes of any sample; at least 1 is kept.
        provenance: recorded for people.
        shard_bytes: uncompressed size of a shard, all arrays together.

    Raises:
        CacheError: if something else is at `path`.
    """
    _refuse_foreign(path)
    layout, arrays = _cut(preset, samples, identity["views"], max(1, max_boxes), shard_bytes)
    metadata = Metadata(
        identity=identity,
        preset_document=to_json(preset),
        provenance=provenance,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        layout=layout,
        samples_digest=samples.digest,
        max_boxes=max(1, max_boxes),
        arrays=arrays,
        metadata_digests={},
    )
    building = path.with_name(f".{path.name}.creating-{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _build(building, metadata, samples)
        _rename_unless_taken(building, path)
    except OSError as error:
        raise CacheError(f"cannot create {path}: {error}") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _cut(
    preset: Preset, samples: Samples, views: int, max_boxes: int, shard_bytes: int
) -> tuple[Layout, tuple[ArraySpec, ...]]:
    """Decide the arrays and how their rows are cut into shards."""
    arrays = array_specs(preset, max_boxes)
    count = len(samples.tokens)
    slots = slots_per_shard(row_bytes(arrays), count, shard_bytes)
    return Layout(views=views, samples=count, slots=slots), arrays


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
    root.update_attributes(to_attributes(with_metadata_digests(metadata, path)))
    for directory, _, files in os.walk(path):
        for name in files:
            with (Path(directory) / name).open("rb") as file:
                os.fsync(file.fileno())
        sync_directory(Path(directory))


def _create_array(root: zarr.Group, spec: ArraySpec, layout: Layout) -> None:
    root.create_array(
        spec.name,
        shape=(layout.views, layout.samples, *spec.shape),
        chunks=(1, 1, *spec.shape),
        shards=(1, layout.slots, *spec.shape),
        dtype=spec.dtype,
        fill_value=spec.fill_value,
        compressors=array_codecs(),
        chunk_key_encoding={"name": "default", "separator": "."},  # files, not deep directories
        dimension_names=("view", "sample", *spec.dims),
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


def _warn_about_versions(then: dict[str, str], now: dict[str, str], path: Path) -> None:
    changed = [
        f"{name} {then[name]} -> {now[name]}"
        for name in then
        if name in now and now[name] != then[name]
    ]
    if changed:
        _log.warning("%s was begun with other versions: %s", path, ", ".join(changed))
