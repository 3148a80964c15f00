"""Memory of batches, reused: fresh pages cost up to a tenth of the time that decoding takes."""

import weakref
from collections import defaultdict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class BatchMemory:
    """Hands out tensors to fill, and reuses their memory once nothing refers to them any more.

    Args:
        is_pinned: page-locked memory, for a fast copy to a GPU. PyTorch itself reuses that once
            the copies out of it have finished.
    """

    def __init__(self, *, is_pinned: bool = False) -> None:
        self.is_pinned = is_pinned
        self._free: defaultdict[int, list[NDArray[np.uint8]]] = defaultdict(list)

    def tensor(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Tensor:
        """Return an uninitialised tensor."""
        torch_dtype = torch.from_numpy(np.empty(0, dtype)).dtype
        if self.is_pinned:
            return torch.empty(shape, dtype=torch_dtype, pin_memory=True)
        size = int(np.prod(shape)) * dtype.itemsize
        free = self._free[size]
        block = free.pop() if free else np.empty(size, np.uint8)
        view = block.view()
        # The tensor, and every tensor or array that shares its memory, refers to `view`.
        weakref.finalize(view, free.append, block).atexit = False
        return torch.from_numpy(view).view(torch_dtype).view(shape)
