"""Features of real frames to measure codecs on, from untrained weights.

No trained weights were available, and how well features compress depends on the weights, so there
are two kinds. Seeded weights are those of an extraction without a checkpoint; their LiDAR branch
hardly mixes neighbours, so that wide areas are constant and compress far too well. Random weights
whose BatchNorms were calibrated on the frames give LiDAR maps that are about half zeros, as a ReLU
makes them from centred values.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cache.reader import CachedFeatures
from shared.config.preset import Preset
from shared.data.features import FrameFeatures, QuantisedMap
from stage1_extract.backbones.frozen import FrozenBackbones
from stage1_extract.backbones.live import LiveFeatures
from stage1_extract.backbones.weights import SEED, frozen_backbones
from stage1_extract.nuscenes.info_files import read_infos
from stage1_extract.nuscenes.records import SampleRecord

INFOS = Path("infos/real_complete.v1.pkl")
SEEDED, CALIBRATED = "seeded", "random, calibrated"

FrameMaps = dict[str, NDArray[np.float16]]  # by name
Frames = list[FrameMaps]


def real_records(root: Path, count: int) -> list[SampleRecord]:
    """Return the frames with the most LiDAR sweeps, which have the densest clouds."""
    records = read_infos(root / INFOS, root, existing_only=True)
    return sorted(records, key=lambda record: -len(record.sweeps))[:count]


def live_frames(preset: Preset, records: Sequence[SampleRecord]) -> Iterator[tuple[str, Frames]]:
    """Yield the kind of weights and the float16 features of every record, for both kinds."""
    tokens = [record.token for record in records]
    for weights in (SEEDED, CALIBRATED):
        if weights == SEEDED:
            frozen, _ = frozen_backbones(preset, None)
        else:
            frozen = _calibrated(preset, records)
        live = LiveFeatures(records, frozen)
        yield weights, [_float16(frame) for token in tokens for frame in live.read([token])]


def stored_frames(path: Path, count: int) -> tuple[tuple[str, str], Frames]:
    """Return the preset and weights of a store, and the features of its first samples."""
    store = CachedFeatures(path)
    origin = store.preset.name, f"{path.name}: {store.provenance.weights}"
    return origin, [_float16(frame) for frame in store.read(store.tokens[:count])]


def _float16(features: FrameFeatures) -> FrameMaps:
    maps = {}
    for name, values in features.maps.items():
        if isinstance(values, QuantisedMap):
            raise SystemExit("the store is quantised already; name a store of float16 maps")
        maps[name] = values.astype(np.float16)
    return maps


def _calibrated(preset: Preset, records: Sequence[SampleRecord]) -> FrozenBackbones:
    """Return backbones as torch initialises them, with the BatchNorm statistics of these records.

    A BatchNorm in train mode normalises with the statistics that it records, so one pass suffices.
    """
    torch.manual_seed(SEED)
    frozen = FrozenBackbones(preset)
    frozen.to_device(torch.device("cpu"))
    norms = [
        module for module in frozen.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)
    ]
    for norm in norms:
        norm.training, norm.momentum = True, None  # None: the mean over all frames
    LiveFeatures(records, frozen).read([record.token for record in records])
    for norm in norms:
        norm.training = False
    return frozen
