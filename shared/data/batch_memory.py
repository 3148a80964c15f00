"""Memory of batches, used again: new pages cost up to a tenth of the time that decoding takes."""

import weakref
from collections import defaultdict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class BatchMemory:
    """Gives out tensors to be filled, and takes their memory back when nobody holds them any more.

    Args:
        is_pinned: page-locked memory, for a fast copy to a GPU. PyTorch itself uses that again,
            once the copies out of it are done.
    """

    def __init__(self, *, is_pinned: bool = False) -> None:
        self.is_pinned = is_pinned
        self._free: defaultdict[int, list[NDArray[np.uint8]]] = defaultdict(list)

    def tensor(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Tensor:
        """Return a tensor that holds anything."""
        torch_dtype = torch.from_numpy(np.empty(0, dtype)).dtype
        if self.is_pinned:
            return torch.empty(shape, dtype=torch_dtype, pin_memory=True)
        size = int(np.prod(shape)) * dtype.itemsize
        free = self._free[size]
        block = free.pop() if free else np.empty(size, np.uint8)
        given = block.view()
        # The tensor, and every tensor or array that looks at a part of it, holds `given`.
        weakref.finalize(given, free.append, block).atexit = False
        return torch.from_numpy(given).view(torch_dtype).view(shape)
