"""Where to compute: on the GPU if there is one."""

import torch


def available_device() -> torch.device:
    """Return CUDA where torch can use it, otherwise the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
