"""A store in a directory: `pathlib` paths, with the verbs that it does not have.

Files are written beside their place and renamed into it.
"""

import contextlib
import glob
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PosixPath
from typing import IO, Any, ClassVar, TypeVar

import numpy as np
import zarr
from numpy.typing import NDArray

from cache.storage.protocol import Buffer, Locate, waiting_lock
from shared.errors import CacheError
from shared.process.file_lock import lock_file
from shared.process.whole_file import remove_partials, sync_directory, whole_file

# Callers checksum each piece while it is in the core's own cache: checksumming a whole row, which
# has gone to memory in between, can cost as much as reading it. Every piece makes a thread take
# Python's lock twice more: smaller pieces cost more than they gain (LOG.md).
PIECE_BYTES = 2**20

CREATING = ".creating-"  # folders in which something is built, or was when its creator was killed
CREATION_LOCK = ".creating.lock"
UNCOUNTED = (CREATION_LOCK, "lost+found")  # in an empty folder; the second is a file system's own

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class DirectoryPath(PosixPath):
    """A file or folder of a store in the file system; see `protocol.StorePath`."""

    __slots__ = ()
    creates_at_once: ClassVar[bool] = True

    def unique_place(self) -> str:
        """Return the path without links, and the inode; devices get other numbers at a restart."""
        return f"{self.resolve()} {self.stat().st_ino}"

    def names(self) -> Iterator[str]:
        """Yield the names of the files in this folder."""
        with os.scandir(self) as files:
            for file in files:
                yield file.name

    def sizes(self) -> dict[str, int]:
        """Return the bytes of every file below, by its path from here."""
        sizes = {}
        for directory, _, files in os.walk(self):
            for file in (Path(directory) / name for name in files):
                try:
                    sizes[str(file.relative_to(self))] = file.stat().st_size
                except FileNotFoundError:
                    continue  # a running writer has just renamed it
        return sizes

    def free_bytes(self) -> int:
        """Return the free bytes of the disk."""
        return shutil.disk_usage(self).free

    def read_array(self) -> NDArray[Any]:
        """Return all values of the Zarr array here."""
        return np.asarray(zarr.open_array(self, mode="r")[:])

    def read_located(self, tail_bytes: int, locate: Locate) -> Iterator[Buffer]:
        """Read a range of a file whose position is recorded at the end of the file."""
        descriptor = os.open(self, os.O_RDONLY)
        try:
            size = os.fstat(descriptor).st_size
            tail = os.pread(descriptor, tail_bytes, max(0, size - tail_bytes))
            start, buffer = locate(tail, size)
            done = 0
            while done < len(buffer):
                piece = buffer[done : done + PIECE_BYTES]
                count = os.preadv(descriptor, [piece.data], start + done)
                if not count:
                    return
                yield piece[:count]
                done += count
        finally:
            os.close(descriptor)

    def write_whole(self, chunks: Iterable[bytes], *, is_cached: bool = True) -> None:
        """Put a file in place, complete or not at all; on disk when this returns."""
        with whole_file(self, is_cached=is_cached) as file:
            file.writelines(chunks)

    def create_whole(self, content: bytes) -> bool:
        """Do the same; the caller's lock keeps other workers away."""
        self.write_whole([content])
        return True

    def replace_whole(self, before: bytes, content: bytes) -> bool:
        """Replace a file that is still `before`; the caller's lock keeps other workers away."""
        if self.read_bytes() != before:
            return False
        self.write_whole([content])
        return True

    def move_aside(self, suffix: str) -> None:
        """Give a file a different suffix, for good."""
        self.replace(self.with_suffix(suffix))
        sync_directory(self.parent)

    def remove_partials(self) -> None:
        """Remove what killed writers left of a file; call only while holding its lock."""
        remove_partials(self.parent, glob.escape(self.name))

    def lock(self, *, is_patient: bool) -> IO[str] | None:
        """Create and lock a file, see `file_lock.lock_file`."""
        return lock_file(self, is_patient=is_patient)

    @contextlib.contextmanager
    def creating(self, last: str) -> Iterator[Path]:
        """Build a folder beside its place and rename it when the block ends without an error.

        A folder that exists, perhaps as a mounted disk or by a link, is filled from a folder inside
        it, `last` last: until then what is there counts as nothing. A kill leaves
        `.NAME.creating-...` or `NAME/.creating-...` behind.
        """
        is_there, own = self.is_dir(), f"{CREATING}{uuid.uuid4().hex}"
        self._refuse_foreign(self._names_inside(last) if is_there else set())
        building = Path(self / own if is_there else self.with_name(f".{self.name}{own}"))
        try:
            building.mkdir(parents=True)
            yield building
            _sync_tree(building)
            if is_there:
                self._fill_unless_taken(building, last)
            else:
                self._rename_unless_taken(building, last)
        finally:
            shutil.rmtree(building, ignore_errors=True)

    def for_each(
        self, work: Callable[[_Item], _Result], items: Iterable[_Item]
    ) -> Iterator[_Result]:
        """Yield the result for every item, one after the other."""
        return map(work, items)

    def _names_inside(self, last: str) -> set[str]:
        """Return what is in this folder, unless it is of somebody who creates here or has done."""
        names = set(self.names())
        is_begun = last in names or any(name.startswith(CREATING) for name in names)
        return set() if is_begun else names - set(UNCOUNTED)

    def _refuse_foreign(self, present: set[str]) -> None:
        """Raise if there is something here that must not be touched."""
        if present:
            raise CacheError(
                f"{self} is not empty and not a feature store ({min(present)} is there); choose a "
                "different --store. Nothing was changed."
            )
        if not self.is_dir() and (self.exists() or self.is_symlink()):
            kind = "a broken link" if self.is_symlink() else "a file"
            raise CacheError(
                f"{self} is {kind}, not a feature store; choose a different --store. Nothing was "
                "changed."
            )

    def _rename_unless_taken(self, building: Path, last: str) -> None:
        try:
            building.rename(self)
        except OSError:
            if not (self / last).exists():
                self._refuse_foreign(set(self.names()) if self.is_dir() else set())
                raise
            return
        sync_directory(self.parent)

    def _fill_unless_taken(self, building: Path, last: str) -> None:
        """Move what was built into this folder; what killed creators left there is replaced.

        What they left has no name that the new build does not have.
        """
        with waiting_lock(self / CREATION_LOCK):
            if (self / last).exists():
                return
            built = sorted({path.name for path in building.iterdir()} - {last})
            inside = {name for name in self.names() if not name.startswith(CREATING)}
            # A folder of the user's may be named like one of ours.
            present = _paths_below(self, inside - set(UNCOUNTED))
            self._refuse_foreign(present - _paths_below(building, built))
            for name in built:
                shutil.rmtree(self / name, ignore_errors=True)
                (building / name).rename(self / name)
            sync_directory(self)
            (building / last).rename(self / last)
            sync_directory(self)


def _paths_below(folder: Path, names: Iterable[str]) -> set[str]:
    """Return the paths, from a folder, of these files and folders in it and of all below them."""
    paths = (path for name in names for path in (folder / name, *(folder / name).rglob("*")))
    return {path.relative_to(folder).as_posix() for path in paths}


def _sync_tree(folder: Path) -> None:
    """Make sure that all files below a folder are on disk."""
    for directory, _, files in os.walk(folder):
        for name in files:
            with (Path(directory) / name).open("rb") as file:
                os.fsync(file.fileno())
        sync_directory(Path(directory))
