"""Locks that the system drops when their holder dies: `flock` on a small file."""

import errno
import fcntl
import os
from pathlib import Path
from typing import IO

UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # from a file system without locks


class NoLocksError(OSError):
    """A place where files cannot be locked."""


def lock_file(path: Path, *, is_patient: bool) -> IO[str] | None:
    """Create and lock a file; its holder either unlinks it before closing it or leaves it.

    Args:
        path: the file.
        is_patient: wait while another holder has it.

    Returns:
        The locked file, to be closed; None if another holder has it and we do not wait.

    Raises:
        NoLocksError: if the file system has no locks.
        OSError: if the disk is full, for example.
    """
    while True:
        file = path.open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if is_patient else fcntl.LOCK_NB))
            if _is_at(path, file):
                return file
        except BlockingIOError:
            file.close()
            return None
        except BaseException as error:
            file.close()
            if isinstance(error, OSError) and error.errno in UNSUPPORTED:
                raise NoLocksError(error.errno, error.strerror) from error
            raise
        file.close()  # its holder unlinked it while we waited: a lock on it excludes nobody


def _is_at(path: Path, file: IO[str]) -> bool:
    """Return whether an open file is still the one at `path`."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
