"""Lets spconv start sooner where there is no GPU.

When `spconv.pytorch` is imported, it describes 1,288 GPU kernels in Python, which takes seconds.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from spconv import core


@contextmanager
def no_gpu_kernels() -> Iterator[None]:
    """Leave spconv no GPU kernels to describe; import mmdet3d or `spconv.pytorch` within.

    Does nothing where there is a GPU. On a CPU spconv runs the same code as with them.
    """
    if not torch.cuda.is_available():
        core.ALL_IMPGEMM_PARAMS.clear()
        core.ALL_NATIVE_PARAMS.clear()
    yield
