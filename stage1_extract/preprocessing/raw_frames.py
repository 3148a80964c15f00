"""Raw samples as the backbones take them, loaded one by one; what a loader process works on.

V cameras.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.utils.data import Dataset

from shared.config.augmentation import VariantDraws
from shared.config.preset import Preset
from shared.data.features import NO_CAMERAS, Frame, Sources
from stage1_extract.nuscenes.records import SampleRecord
from stage1_extract.preprocessing.images import load_images
from stage1_extract.preprocessing.source_log import SourceLog
from stage1_extract.preprocessing.sweeps import load_points
from stage1_extract.preprocessing.variant import Variant, draw_variant
from stage1_extract.preprocessing.variant_geometry import (
    augment_annotations,
    augment_points,
    ego_from_augmented,
    img_from_augmented,
)
from stage1_extract.preprocessing.voxels import Voxelizer, Voxels


@dataclass(frozen=True, kw_only=True, slots=True)
class RawFrame:
    """One sample, ready for the backbones.

    Args:
        frame: geometry and annotations.
        images: (V, 3, height, width) float32, normalised; None for a preset without cameras.
        voxels: of this sample; None for a preset without LiDAR.
        sources: the files that images and voxels were read from.
    """

    frame: Frame
    images: Tensor | None
    voxels: Voxels | None
    sources: Sources = field(default_factory=dict)


class RawFrames(Dataset[RawFrame]):
    """Raw samples by place, see `load`; safe in worker processes.

    Args:
        records: what to load.
        preset: how to load it.
        variants: how augmented variants are drawn; None if there is only variant 0.
    """

    def __init__(
        self, records: Sequence[SampleRecord], preset: Preset, variants: VariantDraws | None = None
    ) -> None:
        self.records = tuple(records)
        self.preset = preset
        self.variants = variants
        self._voxelizer: Voxelizer | None = None  # native memory: created where it is used

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_voxelizer": None}

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, place: tuple[int, int]) -> RawFrame:
        return self.load(*place)

    def load(self, number: int, index: int, camera_number: int | None = None) -> RawFrame:
        """Load a sample.

        Args:
            number: its variant.
            index: its position.
            camera_number: variant that says what happens to its images; None for the same.
        """
        record, camera = self.records[index], self.preset.camera
        variant, log = self._variant(record.token, number), SourceLog(record)
        if camera_number is not None:
            images_of = self._variant(record.token, camera_number)
            variant = replace(variant, image=images_of.image, grid_mask=images_of.grid_mask)
        images, img_from_lidar = None, NO_CAMERAS
        if camera is not None:
            pixels, img_from_lidar = load_images(
                record, camera, variant.image, variant.grid_mask, read=log.reader("camera")
            )
            images = torch.from_numpy(pixels)
        voxels = None if self.preset.lidar is None else self._voxels(record, variant, log)
        return RawFrame(
            frame=Frame(
                token=record.token,
                scene=record.scene,
                timestamp_us=record.timestamp_us,
                variant=number,
                img_from_lidar=img_from_augmented(img_from_lidar, variant),
                ego_from_lidar=ego_from_augmented(record.ego_from_lidar, variant),
                global_from_ego=record.global_from_ego,
                annotations=augment_annotations(record.annotations, variant),
            ),
            images=images,
            voxels=voxels,
            sources=log.sources,
        )

    def _variant(self, token: str, number: int) -> Variant:
        if number == 0:
            return Variant()
        assert self.variants is not None, "this source has only variant 0"
        return draw_variant(
            token,
            number,
            seed=self.variants.seed,
            camera=self.preset.camera,
            augmentation=self.variants.augmentation,
        )

    def _voxels(self, record: SampleRecord, variant: Variant, log: SourceLog) -> Voxels:
        lidar = self.preset.lidar
        assert lidar is not None
        if self._voxelizer is None:
            self._voxelizer = Voxelizer(self.preset.grid, lidar)
        points = load_points(
            record,
            lidar.sweeps,
            drop_close_points=lidar.drop_close_points,
            pad_without_sweeps=lidar.pad_without_sweeps,
            read=log.reader("lidar"),
        )
        return self._voxelizer(
            torch.from_numpy(augment_points(points, variant)), variant.max_voxels
        )
