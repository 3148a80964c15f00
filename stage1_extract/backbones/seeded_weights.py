"""Seeded weights for a run without a checkpoint: the same bytes on every machine, nothing learnt.

Every tensor is drawn by NumPy from its own name, so neither torch's generator nor the order of
modules matters. Plain random weights would do for the camera branch. In the LiDAR branch they bury
the content of a voxel under the density of its neighbourhood, so there the first layer splits the
points at random heights and intensities and every later layer pools (measured in LOG.md).
"""

import zlib
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray

from stage1_extract.backbones.frozen import FrozenBackbones

Weights = NDArray[np.float64]

FIRST_LAYER = "pts_middle_encoder.conv_input"
CAMERA_RESIDUAL_GAIN = 0.4  # last BatchNorm of a bottleneck: 16 blocks grow the variance 11-fold
FILTER_GAIN = 2.0  # sum of a filter's squared weights, as Kaiming has it
# VoVNet's chains of layers have no shortcut, so each must keep the variance: 1 / Var(ReLU(z)).
CHAIN_GAIN = 1 / (0.5 - 0.5 / np.pi)
GATE_GAIN = 0.5  # with 2.0, white noise shuts or opens most gates where stages 4 and 5 begin
GATE_MEAN = 0.5  # mean factor of those gates; a block that adds no input makes up for it
LIDAR_RESIDUAL_GAIN = 0.05  # of a sparse block: more would favour dense places at every block
SPLIT_HEIGHTS_M = (-2.0, 0.5)  # of the LiDAR frame: ground to the top of a car
SPLIT_INTENSITIES = (0.0, 150.0)
INTENSITY_SCALE = 60.0  # the intensity that counts as much as a metre of height
OCCUPANCY = 0.6  # share of a sparse kernel that meets voxels
NEIGHBOUR_SHARE = 0.03  # of a dense LiDAR kernel's centre: SECOND must keep small objects


def seed_weights(frozen: FrozenBackbones, seed: int) -> None:
    """Overwrite every parameter and buffer of the frozen backbones, deterministically."""
    with torch.no_grad():
        for name, tensor in frozen.state_dict().items():
            draw = _lidar_weights if name.startswith("pts_") else _camera_weights
            values = draw(name, tuple(tensor.shape), _random(seed, name))
            tensor.copy_(torch.from_numpy(values))
        if frozen.preset.lidar is not None:
            state = frozen.state_dict()
            first, border = state[f"{FIRST_LAYER}.0.weight"], state[f"{FIRST_LAYER}.1.bias"]
            weight, bias = _half_spaces(len(border), seed)
            first.zero_()[:, 1, 1, 1] = torch.from_numpy(weight).to(first)
            border.copy_(torch.from_numpy(bias))


def _random(seed: int, name: str) -> np.random.RandomState:
    return np.random.RandomState(zlib.crc32(f"{seed}/{name}".encode()))


def _camera_weights(name: str, shape: tuple[int, ...], random: np.random.RandomState) -> Weights:
    """Return random values whose activations stay of order one through ResNet and VoVNet."""
    normal = random.standard_normal(shape)
    if len(shape) == 4:  # (out, in, y, x)
        # Filters that sum to zero ignore what all channels share, the mean after ReLU.
        centred: Weights = normal - normal.mean(axis=(1, 2, 3), keepdims=True)
        return centred * float(np.sqrt(_filter_gain(name) / prod(shape[1:])))
    return _batch_norm(name, normal, _norm_gain(name))


def _filter_gain(name: str) -> float:
    if name.endswith("/conv.weight"):
        return CHAIN_GAIN
    return GATE_GAIN if ".ese." in name else FILTER_GAIN


def _norm_gain(name: str) -> float:
    """Return the gain of a camera BatchNorm: below 1 where the block adds its input."""
    if "_1_concat/" in name:  # the first block of a VoVNet stage adds nothing
        return 1.0 / GATE_MEAN
    return CAMERA_RESIDUAL_GAIN if ".bn3." in name or "_concat/" in name else 1.0


def _lidar_weights(name: str, shape: tuple[int, ...], random: np.random.RandomState) -> Weights:
    """Return convolutions that pool one input channel each, with random positive taps."""
    if len(shape) < 4:
        in_block = name.startswith("pts_middle_encoder.encoder_layers") and ".bn2." in name
        gain = LIDAR_RESIDUAL_GAIN if in_block else 1.0
        return _batch_norm(name, random.standard_normal(shape), gain)
    is_sparse = len(shape) == 5  # (out, z, y, x, in); dense (out, in, y, x)
    taps_shape, sources = (shape[1:4], shape[4]) if is_sparse else (shape[2:], shape[1])
    taps = random.exponential(1.0, (shape[0], *taps_shape))
    if is_sparse:
        taps /= prod(taps_shape) * OCCUPANCY
    else:
        taps *= NEIGHBOUR_SHARE
        taps[:, taps_shape[0] // 2, taps_shape[1] // 2] = 1.0
        taps /= taps.sum(axis=(1, 2), keepdims=True)
    # All input channels are used equally often.
    rounds = -(-shape[0] // sources)
    source = np.concatenate([random.permutation(sources) for _ in range(rounds)])[: shape[0]]
    weight = np.zeros((shape[0], sources, *taps_shape))
    weight[np.arange(shape[0]), source] = taps
    return np.moveaxis(weight, 1, -1) if is_sparse else weight


def _batch_norm(name: str, normal: Weights, gain: float) -> Weights:
    """Return one tensor of a BatchNorm; `gain` is the mean of its weight."""
    if name.endswith("num_batches_tracked"):
        return np.zeros(normal.shape)
    if name.endswith("running_var"):
        return 1.0 + 0.1 * np.abs(normal)
    if name.endswith(".weight"):
        return gain * (1.0 + 0.1 * normal)
    return 0.02 * normal  # bias, running mean


def _half_spaces(channels: int, seed: int) -> tuple[Weights, Weights]:
    """Return weights (channels, 5) over the point's numbers, and biases, of the first layer.

    Each channel is a half-space of height and intensity whose border runs through a likely point;
    position and time lag do not enter.
    """
    random = _random(seed, FIRST_LAYER)
    scales = np.array([0.0, 0.0, 1.0, 1.0 / INTENSITY_SCALE, 0.0])  # x, y, z, intensity, lag
    weight: Weights = random.standard_normal((channels, 5)) * scales
    heights_m = random.uniform(*SPLIT_HEIGHTS_M, channels)
    intensities = random.uniform(*SPLIT_INTENSITIES, channels)
    bias: Weights = -weight[:, 2] * heights_m - weight[:, 3] * intensities
    return weight, bias
