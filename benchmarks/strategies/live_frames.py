"""Raw samples in a sampler's order, as training takes them: the live twin of stage 2's dataset."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.strategies.live_detector import IMAGES, VOXELS
from shared.augmentation import ViewDraws
from shared.batch import Batch
from shared.classes import CAMERAS, LIDAR
from shared.config import Preset
from shared.sensor_drop import Absent, condition
from shared.targets import trainable_annotations
from stage1_extract.live import RawFrame, RawFrames
from stage1_extract.null_sample import black_images, zero_voxels
from stage1_extract.records import SampleRecord
from stage1_extract.voxels import batch_voxels
from stage2_train.sampler import Place


class LivePlaces(Dataset[tuple[RawFrame, Absent]]):
    """Raw samples by place, without the sensors that the place leaves out.

    Args:
        records: the samples; a place counts from the first of them.
        preset: how to load them.
        views: how augmented views are drawn; None where there is only view 0.
    """

    def __init__(
        self, records: Sequence[SampleRecord], preset: Preset, views: ViewDraws | None
    ) -> None:
        self.raw = RawFrames(records, preset, views)

    def __getitem__(self, place: Place) -> tuple[RawFrame, Absent]:
        preset = self.raw.preset
        found = self.raw[place.view, place.sample]
        images, voxels = found.images, found.voxels
        if preset.camera is not None and images is not None:
            lost = [view for view, name in enumerate(CAMERAS) if name in place.absent]
            images[lost] = black_images(preset.camera)[lost]
        if LIDAR in place.absent:
            voxels = zero_voxels(preset)
        kept = trainable_annotations(found.frame.annotations, preset.grid)
        frame = replace(found.frame, annotations=kept)
        return RawFrame(frame=frame, images=images, voxels=voxels), place.absent


def live_batches(
    places: LivePlaces, batches: Iterable[Sequence[Place]], workers: int
) -> Iterable[Batch]:
    """Return batches for a `LiveDetector`, loaded by processes if there are workers."""
    loader: DataLoader[Batch] = DataLoader(
        places,
        batch_sampler=batches,
        collate_fn=_batch,
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
    )
    return loader


def _batch(samples: Sequence[tuple[RawFrame, Absent]]) -> Batch:
    raw = [one for one, _ in samples]
    frames = [one.frame for one in raw]
    maps = {}
    images = [one.images for one in raw if one.images is not None]
    if images:
        maps[IMAGES] = torch.stack(images)
    clouds = [one.voxels for one in raw if one.voxels is not None]
    if clouds:
        voxels = batch_voxels(clouds)
        maps |= {name: getattr(voxels, name) for name in VOXELS}
    return Batch(
        tokens=tuple(one.token for one in frames),
        maps=maps,
        img_from_lidar=torch.from_numpy(np.stack([one.img_from_lidar for one in frames])),
        boxes_lidar=tuple(torch.from_numpy(one.annotations.boxes_lidar) for one in frames),
        labels=tuple(torch.from_numpy(one.annotations.labels) for one in frames),
        conditions=tuple(condition(absent) for _, absent in samples),
    )
