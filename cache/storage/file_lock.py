"""Locks that the system drops when their holder dies: `flock` on a small file."""

import errno
import fcntl
import os
from pathlib import Path
from typing import IO

from cache.storage.location import StorePath

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # what a file system without them says


def lock_file(path: StorePath, *, is_patient: bool) -> IO[str] | None:
    """Create and lock a file; whoever holds it unlinks it before closing, or leaves it.

    Args:
        path: the file.
        is_patient: wait for another holder.

    Returns:
        The locked file, to be closed; None if another holds it and we do not wait.

    Raises:
        OSError: with one of `NO_LOCKS` where there are none; or the disk is full.
    """
    if not isinstance(path, Path):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
    while True:
        file = path.open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if is_patient else fcntl.LOCK_NB))
            if _is_at(path, file):
                return file
        except BlockingIOError:
            file.close()
            return None
        except BaseException:
            file.close()
            raise
        file.close()  # its holder unlinked it while we waited: a lock on it excludes nobody


def _is_at(path: Path, file: IO[str]) -> bool:
    """Return whether this open file is still the one at `path`."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
