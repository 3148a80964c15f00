"""Raw samples as the backbones take them, loaded one by one; what a loader process works on.

V cameras.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from shared.config.augmentation import VariantDraws
from shared.config.preset import Preset
from shared.data.features import NO_CAMERAS, Frame, Sources
from stage1_extract.conditions.apply_condition import SampleChanges
from stage1_extract.conditions.sample_edits import ABSENT
from stage1_extract.nuscenes.records import SampleRecord
from stage1_extract.preprocessing.absent_input import blacken, zero_voxels
from stage1_extract.preprocessing.conditioned_input import ConditionedInput
from stage1_extract.preprocessing.grid_mask import mask_stripes
from stage1_extract.preprocessing.images import load_images, projections
from stage1_extract.preprocessing.source_log import SourceLog, begin_reading
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
        images: (V, 3, height, width) uint8: whoever computes normalises them, since pixels have a
            quarter of the bytes. None for a preset without cameras.
        voxels: of this sample; None for a preset without LiDAR.
        sources: the files that images and voxels were read from.
        rows: by sensor, if rows of it are written, each with the files that it was made from; empty
            if the sample is a row.
        stripes: (V, height + width) bool, what GridMask leaves of each image once it is normalised,
            see `mask_stripes`; None if it masks nothing.
    """

    frame: Frame
    images: Tensor | None
    voxels: Voxels | None
    sources: Sources = field(default_factory=dict)
    rows: Mapping[str, Sources] = field(default_factory=dict)
    stripes: NDArray[np.bool_] | None = None


class RawFrames(Dataset[RawFrame]):
    """Raw samples by place, see `load`; safe in worker processes.

    Args:
        records: what to load.
        preset: how to load it.
        variants: how augmented variants are drawn; None if there is only variant 0.
        conditioned: a condition that their sensors are under; None for samples as recorded.
    """

    def __init__(
        self,
        records: Sequence[SampleRecord],
        preset: Preset,
        variants: VariantDraws | None = None,
        conditioned: ConditionedInput | None = None,
    ) -> None:
        self.records: Sequence[SampleRecord] = tuple(records)
        self.preset = preset
        self.variants = variants
        self.conditioned = conditioned
        self._voxelizer: Voxelizer | None = None  # native memory: created where it is used

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_voxelizer": None}

    def with_records(self, records: Sequence[SampleRecord]) -> "RawFrames":
        """Return the same with its records elsewhere, e.g. in memory that processes share."""
        frames = copy(self)
        frames.records = records
        return frames

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
        changes, files = None, record
        if self.conditioned is not None:
            changes, files = self.conditioned.of(record)
        images, stripes, img_from_lidar = None, None, NO_CAMERAS
        if camera is not None:
            pixels, img_from_lidar = load_images(
                files, camera, variant.image, read=log.reader("camera"), changes=changes
            )
            images = torch.from_numpy(pixels)
            if variant.grid_mask is not None:
                own = mask_stripes(variant.grid_mask, camera.height_px, camera.width_px)
                stripes = np.tile(own, (len(images), 1))
            if changes is not None:
                absent = [changes.edits.cameras.get(view.name) is ABSENT for view in record.cameras]
                blacken(images, stripes, np.flatnonzero(absent).tolist())
        return RawFrame(
            frame=self._frame(record, variant, number, img_from_lidar),
            images=images,
            voxels=None
            if self.preset.lidar is None
            else self._voxels(files, variant, log, changes),
            sources=log.sources,
            stripes=stripes,
        )

    def begin_reading(self, place: tuple[int, int]) -> None:
        """Let Linux begin to read the files, as recorded, of a sample that will be loaded soon."""
        record, preset = self.records[place[1]], self.preset
        if preset.lidar is not None:
            sweeps = record.sweeps[: preset.lidar.sweeps]
            begin_reading([record.lidar_file, *(sweep.file for sweep in sweeps)])
        if preset.camera is not None:
            begin_reading(camera.file for camera in record.cameras)

    def frame(self, number: int, index: int) -> Frame:
        """Return geometry and annotations of a sample in a variant; opens no sensor file."""
        record, camera = self.records[index], self.preset.camera
        variant, posed = self._variant(record.token, number), record
        if self.conditioned is not None:
            _, posed = self.conditioned.of(record)
        matrices = NO_CAMERAS if camera is None else projections(posed, camera, variant.image)
        return self._frame(record, variant, number, matrices)

    def _frame(
        self,
        record: SampleRecord,
        variant: Variant,
        number: int,
        img_from_lidar: NDArray[np.float64],
    ) -> Frame:
        return Frame(
            token=record.token,
            scene=record.scene,
            timestamp_us=record.timestamp_us,
            variant=number,
            img_from_lidar=img_from_augmented(img_from_lidar, variant),
            ego_from_lidar=ego_from_augmented(record.ego_from_lidar, variant),
            global_from_ego=record.global_from_ego,
            annotations=augment_annotations(record.annotations, variant),
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

    def _voxels(
        self,
        record: SampleRecord,
        variant: Variant,
        log: SourceLog,
        changes: SampleChanges | None,
    ) -> Voxels:
        lidar = self.preset.lidar
        assert lidar is not None
        if changes is not None and changes.edits.lidar is ABSENT:
            return zero_voxels(self.preset)  # in any variant, as for images
        if self._voxelizer is None:
            self._voxelizer = Voxelizer(self.preset.grid, lidar)
        points = load_points(
            record,
            lidar.sweeps,
            drop_close_points=lidar.drop_close_points,
            pad_without_sweeps=lidar.pad_without_sweeps,
            read=log.reader("lidar"),
            changes=changes,
        )
        return self._voxelizer(
            torch.from_numpy(augment_points(points, variant)), variant.max_voxels
        )
