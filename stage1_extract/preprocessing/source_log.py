"""The sensor files of a frame, digested as they are read: what is decoded is what is digested.

They come from the disk sooner if it is told of them before, see `begin_reading`.
"""

import contextlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from shared.data.features import SourceFile, Sources
from shared.digests import read_digested
from stage1_extract.nuscenes.records import SampleRecord


class SourceLog:
    """Reads the files of a frame, and notes name and digest of each.

    Args:
        record: the frame.
    """

    def __init__(self, record: SampleRecord) -> None:
        self._record = record
        self._files: defaultdict[str, list[SourceFile]] = defaultdict(list)

    def reader(self, sensor: str) -> Callable[[Path], bytes]:
        """Return a function that reads a file of this sensor, "camera" or "lidar"."""
        return partial(self._read, sensor)

    @property
    def sources(self) -> Sources:
        """What was read, in its order."""
        return {sensor: tuple(files) for sensor, files in self._files.items()}

    def _read(self, sensor: str, file: Path) -> bytes:
        content, digest = read_digested(file)
        self._files[sensor].append(SourceFile(self._record.relative(file), digest))
        return content


def begin_reading(files: Iterable[Path]) -> None:
    """Let Linux begin to read files, all of them side by side; errors are left to who reads one."""
    for file in files:
        with contextlib.suppress(OSError):
            descriptor = os.open(file, os.O_RDONLY)
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
            finally:
                os.close(descriptor)
