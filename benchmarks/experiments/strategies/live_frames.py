"""Raw samples in a sampler's order, as training takes them: the live twin of stage 2's dataset."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.experiments.strategies.live_detector import IMAGES, VOXELS
from shared.config.augmentation import VariantDraws
from shared.config.classes import CAMERAS, LIDAR
from shared.config.preset import Preset
from shared.data.batch import Batch
from shared.data.sensor_drop import Absent, condition
from shared.data.targets import trainable_annotations
from stage1_extract.backbones.live import RawFrame, RawFrames
from stage1_extract.extraction.null_sample import black_images, zero_voxels
from stage1_extract.nuscenes.records import SampleRecord
from stage1_extract.preprocessing.voxels import batch_voxels
from stage2_train.data.sampler import Place


class LivePlaces(Dataset[tuple[RawFrame, Absent]]):
    """Raw samples by place, without the sensors that the place leaves out.

    Args:
        records: the samples; a place counts from the first of them.
        preset: how to load them.
        variants: how augmented variants are drawn; None where there is only variant 0.
    """

    def __init__(
        self, records: Sequence[SampleRecord], preset: Preset, variants: VariantDraws | None
    ) -> None:
        self.raw = RawFrames(records, preset, variants)

    def __getitem__(self, place: Place) -> tuple[RawFrame, Absent]:
        preset = self.raw.preset
        found = self.raw[place.variant, place.sample]
        images, voxels = found.images, found.voxels
        if preset.camera is not None and images is not None:
            lost = [variant for variant, name in enumerate(CAMERAS) if name in place.absent]
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
