"""Files that are either complete or absent, whatever kills the writer or fills the disk."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

PARTIAL_SUFFIX = ".partial"  # a file still being written, or left by a killed writer


@contextlib.contextmanager
def whole_file(path: Path, mode: str = "wb", *, is_cached: bool = True) -> Iterator[IO[Any]]:
    """Open a file for writing that appears at `path`, on disk, if the block ends without an error.

    Every writer has a temporary file of its own; a killed one leaves it for `remove_partials`.

    Args:
        path: file to create or replace.
        mode: "w" (line ends are not translated) or "wb".
        is_cached: whether Linux may keep it in its page cache, for those who read it soon.

    Raises:
        OSError: if the disk is full, for example; it names `path`.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}{PARTIAL_SUFFIX}")
    try:
        with partial.open(mode, newline=None if "b" in mode else "") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if not is_cached:
                with contextlib.suppress(OSError):  # advice, which a file system may not take
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        partial.replace(path)
    except BaseException as error:  # also Ctrl-C: leave no partial file behind
        partial.unlink(missing_ok=True)
        # torch.save hides that the disk is full behind a RuntimeError; our errors are subclasses.
        fault = error.__context__ if type(error) is RuntimeError else error
        if isinstance(fault, OSError):
            if fault.filename in (None, str(partial)):
                fault.filename = str(path)
            raise fault from None
        raise
    sync_directory(path.parent)


def remove_partials(folder: Path, name: str) -> None:
    """Remove what killed writers left of files; call only while nobody else can be writing them.

    Args:
        folder: with the files.
        name: of the files, a pattern for `glob`.
    """
    for stale in folder.glob(f".{name}.*{PARTIAL_SUFFIX}"):
        stale.unlink(missing_ok=True)


def sync_directory(directory: Path) -> None:
    """Make a rename in this directory survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
