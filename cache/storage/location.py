"""Where the files of a store lie: in a directory, or on an S3-compatible storage.

The rest of the package asks here, and reads and names files by what `Path` and `ObjectPath` have in
common. What a directory does by a rename, a storage does by putting an object, whole or not at all.
It has no locks: workers keep to their own parts (`cache.coordination.claims`), and of two on one shard the first
to put the ledger entry has done it (`cache.writer`).
"""

import argparse
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import zarr
from numpy.typing import NDArray

from cache.storage.bucket import SCHEME
from cache.storage.object_path import ObjectPath, object_path
from shared.errors import ConfigError
from shared.process.whole_file import PARTIAL_SUFFIX, sync_directory, whole_file

StorePath = Path | ObjectPath

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def parse_store_path(text: str) -> StorePath:
    """Read a directory or an s3:// URL.

    Raises:
        ConfigError: if it is another URL, or the extra `remote` is needed and not installed.
    """
    if text.startswith(SCHEME):
        return object_path(text)
    scheme, is_url, _ = text.partition("://")
    if is_url:
        raise ConfigError(f"a store lies in a directory or on {SCHEME}, not on {scheme}://")
    return Path(text)


def store_path(text: str) -> StorePath:
    """Read a directory or an s3:// URL of a command line."""
    try:
        return parse_store_path(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def write_chunks(path: StorePath, chunks: Iterable[bytes]) -> None:
    """Put a file in place whole or not at all, on disk when this returns."""
    if isinstance(path, ObjectPath):
        path.write_bytes(b"".join(chunks))
        return
    with whole_file(path, has_rivals=True) as file:
        file.writelines(chunks)


def write_json(path: StorePath, document: Any) -> None:
    """Do the same with a JSON document."""
    if isinstance(path, ObjectPath):
        path.write_bytes(json.dumps(document, allow_nan=False).encode())
        return
    with whole_file(path, "w", has_rivals=True) as file:
        json.dump(document, file, allow_nan=False)


def create_json(path: StorePath, document: Any) -> bool:
    """Do the same unless another worker was first; return whether ours is there now.

    In a directory workers exclude each other by locks before they come here.
    """
    if isinstance(path, ObjectPath):
        return path.create(json.dumps(document, allow_nan=False).encode())
    write_json(path, document)
    return True


def move_aside(path: StorePath, suffix: str) -> None:
    """Give a file another suffix, for good."""
    if isinstance(path, ObjectPath):
        path.replace(path.with_suffix(suffix))
        return
    path.replace(path.with_suffix(suffix))
    sync_directory(path.parent)


def remove_partials(path: StorePath) -> None:
    """Remove what killed writers left of a file; only while holding its lock."""
    if isinstance(path, Path):
        for stale in path.parent.glob(f".{path.name}.*{PARTIAL_SUFFIX}"):
            stale.unlink(missing_ok=True)


def names_in(path: StorePath) -> Iterator[str]:
    """Give the names of the files in a directory, of which there may be many."""
    if isinstance(path, ObjectPath):
        yield from path.names()
        return
    with os.scandir(path) as files:
        for file in files:
            yield file.name


def sizes_below(path: StorePath) -> dict[str, int]:
    """Return the bytes of every file below, by its path from here on."""
    if isinstance(path, ObjectPath):
        return path.sizes()
    sizes = {}
    for directory, _, files in os.walk(path):
        for file in (Path(directory) / name for name in files):
            try:
                sizes[str(file.relative_to(path))] = file.stat().st_size
            except FileNotFoundError:
                continue  # a running writer has just renamed it
    return sizes


def free_bytes(path: StorePath) -> int | None:
    """Return how much fits; None where nobody knows, as on an object storage."""
    return None if isinstance(path, ObjectPath) else shutil.disk_usage(path).free


def read_array(path: StorePath) -> NDArray[Any]:
    """Return all values of a Zarr array."""
    if isinstance(path, ObjectPath):
        return path.read_array()
    return np.asarray(zarr.open_array(path, mode="r")[:])


def for_each(
    path: StorePath, work: Callable[[_Item], _Result], items: Iterable[_Item]
) -> Iterator[_Result]:
    """Do the work of every item in order, at the same time where it is waiting for answers.

    Args:
        path: where the work reads; it must not come here again.
        work: reads something.
        items: what to read.
    """
    if isinstance(path, ObjectPath):
        return path.bucket.pool.map(work, items)
    return map(work, items)
