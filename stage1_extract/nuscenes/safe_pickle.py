"""Unpickle NumPy arrays and built-in containers, and refuse everything that could run code."""

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from shared.errors import DatasetError
from shared.file_kinds import foreign_kind
from shared.process.memory.without_collection import without_collection


def _latin1(text: str, encoding: str) -> bytes:
    """Stand in for `_codecs.encode`, with which old pickle protocols write bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes are encoded as {encoding!r}, not latin1")
    return text.encode("latin1")


# NumPy's own constructors, taken from what NumPy writes, so that they match the installed NumPy.
_RECONSTRUCT = np.empty(0).__reduce__()[0]
_SCALAR = np.float64(0).__reduce__()[0]
_FROM_BUFFER = np.empty(0).__reduce_ex__(5)[0]

ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _latin1,
    ("collections", "OrderedDict"): OrderedDict,
    **{
        (f"{core}.{module}", name): function
        for core in ("numpy.core", "numpy._core")  # NumPy 1 and NumPy 2
        for module, name, function in (
            ("multiarray", "_reconstruct", _RECONSTRUCT),
            ("multiarray", "scalar", _SCALAR),
            ("numeric", "_frombuffer", _FROM_BUFFER),
        )
    },
    **{
        (module, kind.__name__): kind
        for module in ("builtins", "__builtin__")  # Python 3 and 2
        for kind in (bytes, bytearray, set, frozenset, complex)
    },
}


class _RefusedError(Exception):
    """A global that is not in `ALLOWED`."""


class _SafeUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise _RefusedError(f"{module}.{name}")
        return ALLOWED[module, name]


def load_pickle(path: Path) -> Any:
    """Return what a pickle holds, if it holds only NumPy arrays and built-in containers.

    Raises:
        DatasetError: if the file is missing, damaged, or names any other class or function, which
            is then not called.
    """
    if not path.is_file():
        raise DatasetError(f"info file {path} does not exist")
    try:
        with path.open("rb") as file, without_collection():
            return _SafeUnpickler(file).load()
    except _RefusedError as refused:
        raise DatasetError(
            f"{path} is not loaded: it asks for {refused}, and an info file needs NumPy arrays and "
            "built-in containers only. Loading it could run arbitrary code; create it again "
            "without that object, or read the nuScenes tables instead"
        ) from None
    except (
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        OverflowError,
        MemoryError,
    ) as fault:
        kind = foreign_kind(path)
        what = f"it is {kind}" if kind else "it is damaged or truncated; copy or create it again"
        raise DatasetError(
            f"{path} ({path.stat().st_size} bytes) is not a complete pickle "
            f"({type(fault).__name__}: {fault}); {what}"
        ) from fault
