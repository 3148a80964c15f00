"""Seeded random weights for a run without a checkpoint: the same bytes on every machine.

Every tensor is drawn by NumPy from its own name, so neither torch's generator nor the order of
modules matters. Gains keep activations of order one through the depth of the network, so that
float16 holds them; nothing is learnt, and a store made from them says so.
"""

import zlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.config import LidarBranch
from stage1_extract.frozen import FrozenBackbones

RESIDUAL_GAIN = 0.4  # last BatchNorm of a residual branch: 16 blocks grow the variance 11-fold
SURFACE_OCCUPANCY = 0.3  # share of a 3 x 3 x 3 neighbourhood that holds voxels on a surface
INTENSITY_SCALE = 100.0
LAG_SCALE_S = 0.5


def seed_weights(frozen: FrozenBackbones, seed: int) -> None:
    """Overwrite every parameter and buffer of the frozen backbones, deterministically."""
    state = {
        name: torch.from_numpy(_draw(name, tensor, seed)).to(tensor.dtype)
        for name, tensor in frozen.state_dict().items()
    }
    first = state["pts_middle_encoder.conv_input.0.weight"]  # (C, z, y, x, 5)
    first /= torch.tensor(_point_scales(frozen.preset.lidar), dtype=first.dtype)
    with torch.no_grad():
        for name, tensor in frozen.state_dict().items():
            tensor.copy_(state[name])


def _draw(name: str, tensor: Tensor, seed: int) -> NDArray[np.float64]:
    """Return values for one tensor, told by its name and rank."""
    shape = tuple(tensor.shape)
    normal = np.random.RandomState(zlib.crc32(f"{seed}/{name}".encode())).standard_normal(shape)
    drawn: NDArray[np.float64] = 0.1 * normal
    if name.endswith("num_batches_tracked"):
        drawn = np.zeros(shape)
    elif name.endswith("running_var"):
        drawn = 1.0 + 0.1 * np.abs(normal)
    elif len(shape) >= 4:  # a convolution: (out, in, y, x), or spconv's (out, z, y, x, in)
        occupancy = SURFACE_OCCUPANCY if len(shape) == 5 else 1.0
        # Filters that sum to zero do not answer to what all channels share, the mean after ReLU.
        centred = normal - normal.mean(axis=tuple(range(1, len(shape))), keepdims=True)
        drawn = centred * np.sqrt(2.0 / (np.prod(shape[1:]) * occupancy))
    elif name.endswith("weight"):
        last_of_residual = ".bn3." in name or ("encoder_layer" in name and ".bn2." in name)
        drawn = (RESIDUAL_GAIN if last_of_residual else 1.0) * (1.0 + 0.1 * normal)
    elif name.startswith("pts_middle_encoder.conv_input"):
        drawn = np.abs(normal)  # an occupied voxel is seen wherever it lies
    return drawn


def _point_scales(lidar: LidarBranch) -> tuple[float, ...]:
    """Typical magnitude of the five point channels: raw points are not normalised."""
    return (*lidar.grid.point_range_m[3:], INTENSITY_SCALE, LAG_SCALE_S)
