"""Frames as tensors: what the trainable model takes.

B samples, V views, n boxes of a sample.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from shared.features import FrameFeatures, QuantisedMap


@dataclass(frozen=True, kw_only=True, slots=True)
class QuantisedTensor:
    """A feature map of a batch in 8 bit: half the bytes to move to a device.

    Args: see `shared.features.QuantisedMap`, with B in front.
    """

    values: Tensor
    scale: Tensor
    zero: Tensor

    def dequantised(self, device: torch.device | str, dtype: torch.dtype) -> Tensor:
        """Move to `device`, then expand there in float32 and round to `dtype`."""
        values, scale, zero = (
            one.to(device, non_blocking=True) for one in (self.values, self.scale, self.zero)
        )
        # In place, but not fused: `QuantisedMap.dequantised` gives these very numbers.
        return values.float().mul_(scale[..., None, None]).add_(zero[..., None, None]).to(dtype)

    def pin_memory(self) -> "QuantisedTensor":
        """Return a copy in page-locked memory."""
        return QuantisedTensor(
            values=self.values.pin_memory(),
            scale=self.scale.pin_memory(),
            zero=self.zero.pin_memory(),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """A batch of frames.

    Args:
        tokens: B sample tokens.
        maps: feature maps by `FeatureMap.name`, (B, ...) in the dtype of the source.
        img_from_lidar: (B, V, 4, 4) float64, see `shared.features.Frame`.
        boxes_lidar: B tensors (n, 9) float32, see `shared.features.Annotations`.
        labels: B tensors (n,) int64.
        quantised: maps of a quantised store; `to` expands them into `maps`, and a model takes only
            what it has expanded.
    """

    tokens: tuple[str, ...]
    maps: dict[str, Tensor]
    img_from_lidar: Tensor
    boxes_lidar: tuple[Tensor, ...]
    labels: tuple[Tensor, ...]
    quantised: dict[str, QuantisedTensor] = field(default_factory=dict)

    def to(self, device: torch.device | str, *, dtype: torch.dtype | None = None) -> "Batch":
        """Move everything to `device`, and only then expand and cast the maps.

        Args:
            device: where the model is.
            dtype: of the maps; by default that of the source, and float16 for quantised ones.
        """
        maps = {
            name: values.to(device, non_blocking=True).to(dtype or values.dtype)
            for name, values in self.maps.items()
        }
        for name, one in self.quantised.items():
            maps[name] = one.dequantised(device, dtype or torch.float16)
        return Batch(
            tokens=self.tokens,
            maps=maps,
            img_from_lidar=self.img_from_lidar.to(device, non_blocking=True),
            boxes_lidar=tuple(boxes.to(device, non_blocking=True) for boxes in self.boxes_lidar),
            labels=tuple(labels.to(device, non_blocking=True) for labels in self.labels),
        )

    def pin_memory(self) -> "Batch":
        """Return a copy whose large tensors are in page-locked memory; DataLoader calls this.

        Without it DataLoader would leave a batch, which is no type it knows, where it is.
        """
        return replace(
            self,
            maps={name: values.pin_memory() for name, values in self.maps.items()},
            quantised={name: one.pin_memory() for name, one in self.quantised.items()},
            img_from_lidar=self.img_from_lidar.pin_memory(),
        )


def collate(frames: Sequence[FrameFeatures]) -> Batch:
    """Stack frames into a batch; boxes stay a tuple because their number differs."""
    maps: dict[str, Tensor] = {}
    quantised: dict[str, QuantisedTensor] = {}
    for name in frames[0].maps:
        plain, packed = [], []
        for one in frames:
            values = one.maps[name]
            if isinstance(values, QuantisedMap):
                packed.append(values)
            else:
                plain.append(values)
        assert not (plain and packed), "the frames of a batch come from one source"
        if packed:
            quantised[name] = _stacked(packed)
        else:
            maps[name] = torch.from_numpy(np.stack(plain))
    return Batch(
        tokens=tuple(one.frame.token for one in frames),
        maps=maps,
        quantised=quantised,
        img_from_lidar=torch.from_numpy(np.stack([one.frame.img_from_lidar for one in frames])),
        boxes_lidar=tuple(torch.from_numpy(one.frame.annotations.boxes_lidar) for one in frames),
        labels=tuple(torch.from_numpy(one.frame.annotations.labels) for one in frames),
    )


def _stacked(maps: Sequence[QuantisedMap]) -> QuantisedTensor:
    return QuantisedTensor(
        values=torch.from_numpy(np.stack([one.values for one in maps])),
        scale=torch.from_numpy(np.stack([one.scale for one in maps])),
        zero=torch.from_numpy(np.stack([one.zero for one in maps])),
    )
