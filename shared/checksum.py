"""CRC-32C that does not hold Python's lock while it computes.

google-crc32c 1.9 holds it for everything but `bytes` of at least a MiB, earlier versions for these,
too: a loader's threads, which check megabytes of every sample, would keep the thread waiting that
queues work for a GPU. A call through ctypes releases the lock, so long pieces go to the C function
that google-crc32c calls itself, in the library that it brings along.
"""

import ctypes
import importlib
from collections.abc import Callable

import google_crc32c
import numpy as np
from numpy.typing import NDArray

SHORT_BYTES = 2**16  # computed in about as much time as releasing the lock and taking it again
CHECK = (b"123456789", 0xE3069283)  # what catalogues of CRCs give to recognise CRC-32C by

Bytes = bytes | NDArray[np.uint8]


def crc32c(content: Bytes, checksum: int = 0) -> int:
    """Return the CRC-32C of bytes, or of those before them and these.

    Args:
        content: contiguous.
        checksum: of the bytes before.
    """
    if len(content) < SHORT_BYTES or _UNLOCKED is None:
        return int(google_crc32c.extend(checksum, content))
    return _UNLOCKED(checksum, np.frombuffer(content, np.uint8).ctypes.data, len(content))


def _unlocked() -> Callable[[int, int, int], int] | None:
    """Return the C function (checksum, address, length); None if it is not where it is expected."""
    try:
        library = ctypes.CDLL(importlib.import_module("google_crc32c._crc32c").__file__)
        function = library.crc32c_extend
    except (ImportError, OSError, AttributeError):  # google-crc32c in Python, or linked differently
        return None
    function.argtypes = (ctypes.c_uint32, ctypes.c_void_p, ctypes.c_size_t)
    function.restype = ctypes.c_uint32
    content, expected = CHECK
    address = np.frombuffer(content, np.uint8).ctypes.data
    return function if function(0, address, len(content)) == expected else None


_UNLOCKED = _unlocked()
