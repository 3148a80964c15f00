"""A folder that one process at a time writes to: a requeued job must not meet its predecessor."""

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from shared.errors import ConfigError
from shared.process.file_lock import NoLocksError, lock_file

log = logging.getLogger(__name__)

STORE_FILES = ("zarr.json", "delta.json")  # by which `cache` knows a store and a delta store


def make_folder(path: Path) -> None:
    """Create the folder that `--out` names, with the folders above it.

    Raises:
        ConfigError: if there is something else, or the folder is a store of features.
    """
    if any((path / name).exists() for name in STORE_FILES):
        raise ConfigError(
            f"{path} is a feature store, in which nothing else belongs; choose another --out"
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        above = (place for place in (path, *path.parents) if place.is_symlink() or place.exists())
        in_the_way = next(above, path)
        kind = "a broken link" if in_the_way.is_symlink() else "a file"
        raise ConfigError(
            f"{path} cannot be a folder: {in_the_way} is {kind}; choose another --out"
        ) from None


@contextlib.contextmanager
def locked_folder(path: Path, lock: str) -> Iterator[None]:
    """Create a folder and keep other processes out while entered.

    The lock is `flock` on a small file, which vanishes with its process, however that dies.

    Args:
        path: the folder.
        lock: name of that file; only those who use the same name exclude each other.

    Raises:
        ConfigError: if another process has it; it says which.
    """
    make_folder(path)
    try:
        file = lock_file(path / lock, is_patient=False)
    except NoLocksError:
        log.warning(
            "the file system of %s has no locks (NFS without lockd?); make sure that no other "
            "process writes to this folder",
            path,
        )
        yield
        return
    if file is None:
        raise ConfigError(
            f"{path} is in use by {_holder(path / lock)}; wait until it has ended, which frees the "
            "folder whatever ends it, or choose another --out. Nothing was changed"
        )
    with file:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # a disk that became read-only keeps it, unlocked
                (path / lock).unlink()  # before it is closed: see `lock_file`


def _holder(lock: Path) -> str:
    """Return who has a lock, as it says itself."""
    with contextlib.suppress(FileNotFoundError):
        return lock.read_text() or "another process"
    return "another process"
