"""The Zarr v3 sharding format, read and written directly: rows one after the other, then an index.

Written once, whole, and read row by row. Zarr's own code is not used here for three reasons, seen
with zarr 3.1.5: it reads a row at 0.7 of this speed (a small row at a tenth), it returns the fill
value for a row that is not there, and it reads a shard before replacing it, so that a damaged one
cannot be replaced.
The tests read every file with plain Zarr, and read here what plain Zarr wrote.

Source: zarr-specs v3, codecs/sharding-indexed v1.0, index at the end, with crc32c.
"""

import contextlib
import errno
import os
import threading
from collections.abc import Iterable, Iterator

import google_crc32c
import numpy as np

from cache.format.codec import CHECKSUM_BYTES, SEALED, DamageError, Payload, seal, unseal
from cache.storage.bucket import KEPT_TAILS
from cache.storage.location import StorePath, write_chunks
from cache.storage.object_path import ChangedError, ObjectPath
from shared.errors import CacheError

EMPTY = 2**64 - 1  # offset and length of a slot that holds no row
ROW = "the row"
# Each piece gets its checksum while it is in a core's own cache: that of a whole row, which has
# gone to memory in between, costs as much as reading it (LOG.md).
PIECE_BYTES = 2**18
LOST = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EIO)  # damage; a permission is not


def write_shard_file(path: StorePath, rows: Iterable[bytes], slots: int) -> int:
    """Write a shard whole and put it in place at once, on disk when this returns.

    Args:
        path: file to create or replace.
        rows: encoded rows from slot 0 on, at most `slots`.
        slots: rows a shard has buffer for.

    Returns:
        Bytes written.
    """
    index = np.full((slots, 2), EMPTY, "<u8")
    offset = 0

    def chunks() -> Iterator[bytes]:
        nonlocal offset
        for slot, row in enumerate(rows):
            yield row
            index[slot] = offset, len(row)
            offset += len(row)
        yield seal(index.tobytes())

    write_chunks(path, chunks())
    return offset + index.nbytes + CHECKSUM_BYTES


class _Scratch(threading.local):
    """Memory of each thread for one encoded row: new pages for each cost up to a tenth of decoding.

    It stays as large as the largest row read.
    """

    memory: Payload = np.empty(0, np.uint8)

    def buffer(self, length: int) -> Payload:
        """Return memory for a row; the next row comes into the same."""
        if len(self.memory) < length:
            self.memory = np.empty(length, np.uint8)
        return self.memory[:length]


_SCRATCH = _Scratch()


def read_row(path: StorePath, slot: int, slots: int, *, is_passing: bool = False) -> Payload:
    """Read one encoded row and check its checksum.

    Args:
        path: of the shard.
        slot: of the row.
        slots: rows a shard has buffer for.
        is_passing: whether this thread is done with it before it reads another, which then comes
            into the same memory.

    Returns:
        The bytes before the checksum.

    Raises:
        DamageError: if the file is missing or truncated, the index or the row damaged, or the slot
            empty.
        CacheError: if the file may be whole, but cannot be read now.
    """
    index_bytes = slots * 16 + CHECKSUM_BYTES
    with _explained(path):
        if isinstance(path, ObjectPath):
            return unseal(_read_object(path, slot, index_bytes), what=ROW)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            size = os.fstat(descriptor).st_size
            index = os.pread(descriptor, index_bytes, max(0, size - index_bytes))
            offset, length = _find(path, slot, index, index_bytes, size)
            buffer = _SCRATCH.buffer(length) if is_passing else np.empty(length, np.uint8)
            return _read_checked(descriptor, offset, buffer)
        finally:
            os.close(descriptor)


def _read_checked(descriptor: int, offset: int, buffer: Payload) -> Payload:
    """Fill `buffer` with a row of a file; return what `unseal` would return of it."""
    done = checksum = 0
    while done < len(buffer):
        piece = buffer[done : done + PIECE_BYTES]
        count = os.preadv(descriptor, [piece.data], offset + done)
        if not count:
            raise DamageError(f"{ROW} is truncated")
        checksum = google_crc32c.extend(checksum, piece[:count])
        done += count
    if checksum != SEALED:
        raise DamageError(f"checksum of {ROW} does not match")
    return buffer[:-CHECKSUM_BYTES]


def _find(path: StorePath, slot: int, index: bytes, index_bytes: int, size: int) -> tuple[int, int]:
    """Return where in a file of `size` bytes that ends with `index` a row lies, and its length."""
    if size < index_bytes:
        raise DamageError(f"file {path} is truncated to {size} bytes")
    whole = unseal(index, what=f"the index of {path}").view("<u8")
    offset, length = int(whole[2 * slot]), int(whole[2 * slot + 1])
    if offset == EMPTY or offset + length > size - index_bytes:
        raise DamageError(f"{path} holds no row in slot {slot}")
    return offset, length


def _read_object(path: ObjectPath, slot: int, index_bytes: int) -> bytes:
    """Read a row of an object, whose index is kept for the next one."""
    tails = path.bucket.tails
    for version_counts in (True, True, False):  # the last for a storage that gets versions wrong
        tail = tails.get(path.key) or path.read_tail(index_bytes)
        offset, length = _find(path, slot, tail.content, index_bytes, tail.size)
        try:
            row = path.read_range(offset, length, tail.version if version_counts else None)
        except ChangedError:  # rebuilt since
            tails.pop(path.key, None)
            continue
        if tail.version is not None:
            if len(tails) >= KEPT_TAILS:
                tails.clear()
            tails[path.key] = tail
        return row
    raise AssertionError("a request without a condition does not fail one")


@contextlib.contextmanager
def _explained(path: StorePath) -> Iterator[None]:
    """Tell damage from a file that cannot be read for another reason."""
    try:
        yield
    except FileNotFoundError:
        raise DamageError(f"file {path} is missing") from None
    except OSError as error:
        if error.errno in LOST:
            raise DamageError(f"file {path} cannot be read: {error.strerror}") from error
        raise CacheError(
            f"{path} cannot be read: {error.strerror}. Nothing is known to be damaged; solve this "
            "and run the same command again"
        ) from error
