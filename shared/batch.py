"""Frames as tensors: what the trainable model takes.

B samples, V views, n boxes of a sample.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from shared.features import FrameFeatures


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """A batch of frames.

    Args:
        tokens: B sample tokens.
        maps: feature maps by `FeatureMap.name`, (B, ...) in the dtype of the source.
        img_from_lidar: (B, V, 4, 4) float64, see `shared.features.Frame`.
        boxes_lidar: B tensors (n, 9) float32, see `shared.features.Annotations`.
        labels: B tensors (n,) int64.
    """

    tokens: tuple[str, ...]
    maps: dict[str, Tensor]
    img_from_lidar: Tensor
    boxes_lidar: tuple[Tensor, ...]
    labels: tuple[Tensor, ...]

    def to(self, device: torch.device | str, *, dtype: torch.dtype | None = None) -> "Batch":
        """Move everything to `device`; cast the maps to `dtype` after the transfer."""
        return Batch(
            tokens=self.tokens,
            maps={
                name: values.to(device, non_blocking=True).to(dtype or values.dtype)
                for name, values in self.maps.items()
            },
            img_from_lidar=self.img_from_lidar.to(device, non_blocking=True),
            boxes_lidar=tuple(boxes.to(device, non_blocking=True) for boxes in self.boxes_lidar),
            labels=tuple(labels.to(device, non_blocking=True) for labels in self.labels),
        )


def collate(frames: Sequence[FrameFeatures]) -> Batch:
    """Stack frames into a batch; boxes stay a tuple because their number differs."""
    names = frames[0].maps.keys()
    return Batch(
        tokens=tuple(one.frame.token for one in frames),
        maps={
            name: torch.from_numpy(np.stack([one.maps[name] for one in frames])) for name in names
        },
        img_from_lidar=torch.from_numpy(np.stack([one.frame.img_from_lidar for one in frames])),
        boxes_lidar=tuple(torch.from_numpy(one.frame.annotations.boxes_lidar) for one in frames),
        labels=tuple(torch.from_numpy(one.frame.annotations.labels) for one in frames),
    )
