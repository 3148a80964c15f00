"""Files that are either complete or absent, whatever kills the writer or fills the disk."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

PARTIAL_SUFFIX = ".partial"  # a file still being written, or left by a killed writer


@contextlib.contextmanager
def whole_file(path: Path, mode: str = "wb", *, has_rivals: bool = False) -> Iterator[IO[Any]]:
    """Open a file for writing that appears at `path`, on disk, if the block ends without an error.

    Args:
        path: file to create or replace.
        mode: "w" (line ends are not translated) or "wb".
        has_rivals: other processes may write it at the same time, each to a temporary file of its
            own; otherwise the next writer overwrites what a killed writer left.
    """
    own = f".{uuid.uuid4().hex}" if has_rivals else ""
    partial = path.with_name(f".{path.name}{own}{PARTIAL_SUFFIX}")
    try:
        with partial.open(mode, newline=None if "b" in mode else "") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:  # also Ctrl-C: leave no partial file behind
        partial.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make a rename in this directory survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
