"""SHA-256 of arrays, state dicts and JSON documents: of bytes, never of names, paths or objects."""

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor  # importing torch costs every `feature-cache` call two seconds


def array_digest(values: NDArray[Any]) -> str:
    """Return the hex digest of an array's dtype, shape and little-endian bytes."""
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    digest = hashlib.sha256(f"{little.dtype.str}{values.shape}".encode())
    digest.update(little.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


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
