"""What a store needs of the place where its files are: `StorePath`, implemented by two classes.

`directory.DirectoryPath` is a path of the file system, `object_storage.ObjectPath` the name of an
object. They differ in what makes a write atomic and in how workers keep out of each other's way:

- A directory renames finished files into place, and has file locks.
- Object storage puts an object in one request, either completely or not at all. It has no locks:
  workers keep to their own slices (`cache.coordination.claims`), and of two workers on one shard
  the first to put the ledger entry wins (`cache.writer`). The metadata of the root group, which may
  change later, is replaced only if it is still what it was when it was read (`cache.extend`).
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any, ClassVar, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from shared.process.file_lock import NoLocksError

Buffer = NDArray[np.uint8]
# From the end of a file and the size of the whole file: where a range starts, and memory for it.
Locate = Callable[[bytes, int], tuple[int, Buffer]]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class StorePath(Protocol):
    """A file or folder of a store; the verbs that `pathlib.Path` has too mean the same."""

    creates_at_once: ClassVar[bool]  # whether what `creating` makes appears in a single step

    @property
    def name(self) -> str:
        """The last name in the path."""

    @property
    def parent(self) -> Self:
        """The folder that holds this."""

    def __truediv__(self, below: str, /) -> Self: ...

    def with_suffix(self, suffix: str) -> Self:
        """Return the path with a different suffix."""

    def exists(self) -> bool:
        """Return whether there is a file or folder."""

    def is_file(self) -> bool:
        """Return whether there is a file."""

    def is_dir(self) -> bool:
        """Return whether there is a folder."""

    def read_bytes(self) -> bytes:
        """Return the content of a file; FileNotFoundError if there is none."""

    def unlink(self, missing_ok: bool = ...) -> None:
        """Delete a file."""

    def unique_place(self) -> str:
        """Return what tells this folder from every other, also from a copy that replaced it."""

    def names(self) -> Iterator[str]:
        """Yield the names of the files in a folder, of which there may be many."""

    def sizes(self) -> dict[str, int]:
        """Return the bytes of every file below a folder, by its path from there."""

    def free_bytes(self) -> int | None:
        """Return how many bytes still fit; None where the place does not say."""

    def read_array(self) -> NDArray[Any]:
        """Return all values of the Zarr array in a folder."""

    def read_located(self, tail_bytes: int, locate: Locate) -> Iterator[Buffer]:
        """Read a range of a file whose position is recorded at the end of the file.

        Args:
            tail_bytes: how much of the end `locate` needs; it gets less if the file is shorter.
            locate: returns where the range starts, and a buffer of its length. May be called again
                if the file is replaced meanwhile.

        Yields:
            The pieces of the buffer in order, each as soon as it is filled; fewer bytes than the
            buffer has if the file ends first.

        Raises:
            OSError: if the file cannot be read.
        """

    def write_whole(self, chunks: Iterable[bytes], *, is_cached: bool = True) -> None:
        """Put a file in place, complete or not at all; durable when this returns.

        Args:
            chunks: of its content.
            is_cached: whether this machine may keep it in memory, for those who read it soon.
        """

    def create_whole(self, content: bytes) -> bool:
        """Do the same with a small file, unless another worker was first.

        Where there are locks, callers hold one, and the file is replaced.

        Returns:
            Whether the file has our content now.
        """

    def replace_whole(self, before: bytes, content: bytes) -> bool:
        """Replace a small file, complete or not at all, if its content is still `before`.

        Where there are locks, callers hold one.

        Returns:
            Whether the file has our content now.

        Raises:
            FileNotFoundError: if there is no file.
        """

    def move_aside(self, suffix: str) -> None:
        """Give a file a different suffix, for good."""

    def remove_partials(self) -> None:
        """Remove what killed writers left of a file; call only while holding its lock."""

    def lock(self, *, is_patient: bool) -> IO[str] | None:
        """Create and lock a file, see `shared.process.file_lock`.

        Raises:
            NoLocksError: if files cannot be locked here.
        """

    def creating(self, last: str) -> AbstractContextManager[Path]:
        """Put a folder in place when the block ends without an error.

        A folder that another worker created meanwhile wins, and is left as it is.

        Args:
            last: the file that makes the folder count as created.

        Yields:
            An empty directory to write its content to.

        Raises:
            CacheError: if something different is there; it is not touched.
        """

    def for_each(
        self, work: Callable[[_Item], _Result], items: Iterable[_Item]
    ) -> Iterator[_Result]:
        """Yield the result for every item in order; concurrently where that hides latency.

        Args:
            work: reads something below this path; must not call `for_each` itself.
            items: what to read.
        """


@contextmanager
def waiting_lock(file: StorePath) -> Iterator[None]:
    """Wait until no other process is in here with this file, and keep others out.

    Nobody is kept out where files cannot be locked. The file is gone afterwards.
    """
    try:
        lock = file.lock(is_patient=True)
    except NoLocksError:
        yield
        return
    assert lock is not None
    with lock:
        try:
            yield
        finally:
            file.unlink(missing_ok=True)  # before it is closed: see `lock_file`
