"""Raw samples in a sampler's order, as training takes them: the live `StoreDataset`."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.experiments.strategies.live_detector import IMAGES, STRIPES, VOXELS
from shared.config.augmentation import VariantDraws
from shared.config.classes import CAMERAS, LIDAR
from shared.config.preset import Preset
from shared.data.batch import Batch
from shared.data.sensor_drop import Absent, condition
from shared.data.targets import trainable_annotations
from stage1_extract.backbones.live import join_raw
from stage1_extract.nuscenes.records import SampleRecord
from stage1_extract.preprocessing.absent_input import blacken, zero_voxels
from stage1_extract.preprocessing.raw_frames import RawFrame, RawFrames
from stage2_train.data.sampler import Place


class LivePlaces(Dataset[tuple[RawFrame, Absent]]):
    """Raw samples by place, without the sensors that it leaves out.

    Args:
        records: the samples; a place counts from the first of them.
        preset: how to load them.
        variants: how augmented variants are drawn; None if there is only variant 0.
    """

    def __init__(
        self, records: Sequence[SampleRecord], preset: Preset, variants: VariantDraws | None
    ) -> None:
        self.raw = RawFrames(records, preset, variants)

    def __getitem__(self, place: Place) -> tuple[RawFrame, Absent]:
        preset = self.raw.preset
        raw = self.raw.load(place.variant, place.sample, place.camera_variant)
        if raw.images is not None:
            lost = [view for view, name in enumerate(CAMERAS) if name in place.absent]
            blacken(raw.images, raw.stripes, lost)
        if LIDAR in place.absent:
            raw = replace(raw, voxels=zero_voxels(preset))
        annotations = trainable_annotations(raw.frame.annotations, preset.grid)
        frame = replace(raw.frame, annotations=annotations)
        return replace(raw, frame=frame), place.absent


def live_batches(
    samples: Dataset[tuple[RawFrame, Absent]], batches: Iterable[Sequence[Place]], workers: int = 0
) -> Iterable[Batch]:
    """Return batches for a `LiveDetector`, loaded by worker processes if there are any."""
    loader: DataLoader[Batch] = DataLoader(
        samples,
        batch_sampler=batches,
        collate_fn=_batch,
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
    )
    return loader


def _batch(samples: Sequence[tuple[RawFrame, Absent]]) -> Batch:
    raw = [sample for sample, _ in samples]
    frames = [sample.frame for sample in raw]
    joined = join_raw(raw)
    maps = {
        name: values
        for name, values in ((IMAGES, joined.images), (STRIPES, joined.stripes))
        if values is not None
    }
    if joined.voxels is not None:
        maps |= {name: getattr(joined.voxels, name) for name in VOXELS}
    return Batch(
        tokens=tuple(frame.token for frame in frames),
        maps=maps,
        img_from_lidar=torch.from_numpy(np.stack([frame.img_from_lidar for frame in frames])),
        boxes_lidar=tuple(torch.from_numpy(frame.annotations.boxes_lidar) for frame in frames),
        labels=tuple(torch.from_numpy(frame.annotations.labels) for frame in frames),
        conditions=tuple(condition(absent) for _, absent in samples),
    )
