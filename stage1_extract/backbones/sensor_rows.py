"""From the maps of samples to the rows of a delta: sensor by sensor, those that it holds."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from cache.delta.delta_rows import row_frame
from cache.format.layout import Shard
from shared.config.classes import CAMERAS, LIDAR
from stage1_extract.backbones.live import LiveFeatures, RawBatch
from stage1_extract.preprocessing.delta_frames import DeltaFrames
from stage1_extract.preprocessing.raw_frames import RawFrame


class SensorRows:
    """What computes the rows of a store inside a delta.

    All views of a sample are computed together, although only some may be rows: kernels round
    differently in batches of different sizes, and these are those of the base.

    Args:
        live: computes the samples of `frames`, which it holds.
        frames: loads the samples.
    """

    def __init__(self, live: LiveFeatures, frames: DeltaFrames) -> None:
        assert live.raw is frames
        self.live, self._frames = live, frames

    @property
    def most_per_sample(self) -> int:
        """Rows that a sample may give."""
        return 1 if self._frames.preset.camera is None else len(CAMERAS)

    def places(self, shard: Shard) -> range:
        """Return the places of the samples that give the rows of a shard."""
        return self._frames.places(shard.start, shard.start + len(shard.tokens))

    @staticmethod
    def count(batch: RawBatch) -> int:
        """Return how many rows a batch gives."""
        return sum(len(raw.rows) for raw in batch.rows)

    @staticmethod
    def split(
        batch: RawBatch, maps: Mapping[str, Tensor]
    ) -> tuple[tuple[RawFrame, ...], dict[str, Tensor]]:
        """Return the rows of a batch, and their maps.

        Args:
            batch: loaded by `DeltaFrames`.
            maps: (B, V, C, H, W) of the cameras or (B, C, Y, X) of the LiDAR.

        Returns:
            The rows, sample by sample; and (rows, C, ...) by map.
        """
        rows, taken = list[RawFrame](), list[int]()
        is_lidar = LIDAR in batch.rows[0].rows
        for place, raw in enumerate(batch.rows):
            for sensor, files in raw.rows.items():
                rows.append(replace(raw, frame=row_frame(raw.frame, sensor), sources=files))
                view = place * len(CAMERAS) + (0 if is_lidar else CAMERAS.index(sensor))
                taken.append(place if is_lidar else view)
        split = {}
        for name, values in maps.items():
            flat = values if is_lidar else values.flatten(0, 1)  # (B * V, C, H, W)
            # Not an index, which a GPU would have to wait for.
            split[name] = torch.stack([flat[place] for place in taken])  # (rows, C, ...)
        return tuple(rows), split
