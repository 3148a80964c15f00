"""Lets spconv start sooner where there is no GPU.

When `spconv.pytorch` is imported, it describes 1,288 GPU kernels in Python, which takes seconds.
"""

import torch
from spconv import core


def skip_gpu_kernels() -> None:
    """Leave spconv no GPU kernels to describe; call this before importing `spconv.pytorch`.

    Does nothing where there is a GPU. On a CPU spconv runs the same code as with them.
    """
    if not torch.cuda.is_available():
        core.ALL_IMPGEMM_PARAMS.clear()
        core.ALL_NATIVE_PARAMS.clear()
