"""Digests of arrays, files, state dicts, JSON: of bytes, never of names, paths or objects.

SHA-256, but for the rows of a store: these are many gigabytes, and BLAKE3 takes a quarter of the
time, or a tenth on a processor without SHA instructions. Both have 256 bits.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor  # importing torch costs every `feature-cache` call two seconds

SHA256, BLAKE3 = "sha256", "blake3"
MOST_REMEMBERED = 16_384  # files, in 5 MB
_ALGORITHMS: dict[str, Callable[[bytes], Any]] = {SHA256: hashlib.sha256, BLAKE3: blake3}
_remembered: dict[tuple[str, int, int], str] = {}  # digest by path, size and time of change


def array_digest(values: NDArray[Any], algorithm: str = SHA256) -> str:
    """Return the hex digest of an array's dtype, shape and little-endian bytes.

    Args:
        values: of any shape and dtype.
        algorithm: `SHA256` or `BLAKE3`.
    """
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    digest = _ALGORITHMS[algorithm](f"{little.dtype.str}{values.shape}".encode())
    digest.update(little.reshape(-1).view(np.uint8).data)
    return str(digest.hexdigest())


def json_digest(document: Any) -> str:
    """Return the hex digest of a JSON document, independent of the order of keys."""
    return hashlib.sha256(
        json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    ).hexdigest()


def state_digest(state: Mapping[str, "Tensor"]) -> str:
    """Return the hex digest of named tensors (parameters and buffers), whatever their order."""
    return json_digest(
        {name: array_digest(tensor.detach().cpu().numpy()) for name, tensor in state.items()}
    )


def read_digested(file: Path) -> tuple[bytes, str]:
    """Read a file; return its bytes and their hex digest, as `sha256sum` prints it.

    A file that has not changed is digested once per process: sweeps belong to several samples.

    Raises:
        OSError: if it cannot be read.
    """
    with file.open("rb") as opened:
        content = opened.read()
        key = _key(file, os.fstat(opened.fileno()))
    digest = _remembered.get(key)
    if digest is None:
        if len(_remembered) >= MOST_REMEMBERED:
            _remembered.clear()
        digest = _remembered[key] = hashlib.sha256(content).hexdigest()
    return content, digest


def file_digest(file: Path) -> str:
    """Return the hex digest of a file, without reading it where `read_digested` just did.

    Raises:
        OSError: if it cannot be read.
    """
    return _remembered.get(_key(file, file.stat())) or read_digested(file)[1]


def _key(file: Path, status: os.stat_result) -> tuple[str, int, int]:
    return str(file), status.st_size, status.st_mtime_ns
