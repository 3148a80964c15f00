"""Frames as tensors: the input of the trainable model.

B samples, V views, n boxes of a sample.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from shared.data.batch_memory import BatchMemory
from shared.data.features import Frame, FrameFeatures, MapValues, QuantisedMap
from shared.data.map_arrays import Arrays, MapArrays, copy_map, map_parts
from shared.data.sensor_drop import NOTHING, condition
from shared.process.device import send


@dataclass(frozen=True, kw_only=True, slots=True)
class QuantisedTensor:
    """A feature map of a batch in 8 bit: half as many bytes to move to a device.

    Args: see `shared.data.features.QuantisedMap`, with B in front.
    """

    values: Tensor
    scale: Tensor
    zero: Tensor

    def dequantised(self, device: torch.device | str, dtype: torch.dtype) -> Tensor:
        """Move to `device`, then expand there in float32 and round to `dtype`."""
        values, scale, zero = (
            tensor.to(device, non_blocking=True) for tensor in (self.values, self.scale, self.zero)
        )
        # In place, but not fused: the same bits as `QuantisedMap.dequantised`.
        return values.float().mul_(scale[..., None, None]).add_(zero[..., None, None]).to(dtype)


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """A batch of frames.

    Args:
        tokens: B sample tokens.
        maps: feature maps by `FeatureMap.name`, (B, ...) in the dtype of the source.
        img_from_lidar: (B, V, 4, 4) float64, see `shared.data.features.Frame`.
        boxes_lidar: B tensors (n, 9) float32, see `shared.data.features.Annotations`; they and the
            labels stay on the host until `shared.data.ground_truth` packs them.
        labels: B tensors (n,) int64.
        quantised: maps of a quantised store; `to` expands them into `maps`, which is all that a
            model reads.
        conditions: of every sample, `shared.data.sensor_drop.condition` of its absent sensors.
    """

    tokens: tuple[str, ...]
    maps: dict[str, Tensor]
    img_from_lidar: Tensor
    boxes_lidar: tuple[Tensor, ...]
    labels: tuple[Tensor, ...]
    quantised: dict[str, QuantisedTensor] = field(default_factory=dict)
    conditions: tuple[str, ...] = ()

    def to(self, device: torch.device | str, *, dtype: torch.dtype | None = None) -> "Batch":
        """Move maps and cameras to `device`, then expand and cast the maps there.

        Args:
            device: of the model.
            dtype: of the maps; by default that of the source, float16 for quantised ones.
        """
        on_device = torch.device(device).type != "cpu"  # else the host would read half a copy
        maps = {
            name: values.to(device, non_blocking=on_device).to(dtype or values.dtype)
            for name, values in self.maps.items()
        }
        for name, quantised in self.quantised.items():
            maps[name] = quantised.dequantised(device, dtype or torch.float16)
        matrices = self.img_from_lidar
        matrices = matrices.to(device) if matrices.is_cuda else send([matrices], device)[0]
        return replace(self, maps=maps, img_from_lidar=matrices, quantised={})


class BatchBuffer(MapArrays):
    """Memory for the maps of a batch, to be filled sample by sample, in any order and thread.

    Args:
        like: maps of a sample, for their shapes and dtypes.
        samples: B.
        memory: where the memory comes from.
    """

    def __init__(
        self, like: Mapping[str, MapValues], samples: int, memory: BatchMemory | None = None
    ) -> None:
        memory = memory or BatchMemory()
        self._maps: dict[str, Tensor] = {}
        self._quantised: dict[str, QuantisedTensor] = {}
        arrays: dict[str, Arrays] = {}  # the same memory
        for name, values in like.items():
            tensors = [
                memory.tensor((samples, *part.shape), part.dtype) for part in map_parts(values)
            ]
            if isinstance(values, QuantisedMap):
                whole, scale, zero = tensors
                self._quantised[name] = QuantisedTensor(values=whole, scale=scale, zero=zero)
            else:
                (self._maps[name],) = tensors
            arrays[name] = tuple(tensor.numpy() for tensor in tensors)
        super().__init__(arrays)

    def batch(self, frames: Sequence[Frame], conditions: Sequence[str]) -> Batch:
        """Return the batch, once every sample is filled.

        Args:
            frames: of the samples.
            conditions: see `Batch`.
        """
        return Batch(
            tokens=tuple(frame.token for frame in frames),
            maps=self._maps,
            quantised=self._quantised,
            img_from_lidar=torch.from_numpy(np.stack([frame.img_from_lidar for frame in frames])),
            boxes_lidar=tuple(torch.from_numpy(frame.annotations.boxes_lidar) for frame in frames),
            labels=tuple(torch.from_numpy(frame.annotations.labels) for frame in frames),
            conditions=tuple(conditions),
        )


def collate(features: Sequence[FrameFeatures]) -> Batch:
    """Copy the maps of samples into a batch; every sensor counts as present."""
    buffer = BatchBuffer(features[0].maps, len(features))
    for index, sample in enumerate(features):
        for name, values in buffer.sample(index).items():
            copy_map(sample.maps[name], values)
    frames = [sample.frame for sample in features]
    return buffer.batch(frames, [condition(NOTHING)] * len(frames))
