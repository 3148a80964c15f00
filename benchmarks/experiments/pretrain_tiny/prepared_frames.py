"""Raw frames in their variants, prepared once and kept on disk: images of few pixels, voxel means.

What decoding 1600 x 900 JPEGs and reading eleven sweeps costs would be a third of a training step.
Camera and LiDAR variants are independent, as in the official pipeline: K of each make K * K.

S samples, K variants of each sensor, V views, M voxels of all clouds of a file.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from benchmarks.experiments.pretrain_tiny.prepare_frames import (
    CLOUD_ENDS,
    MEANS,
    PIXELS,
    PLACES,
    Preparation,
)
from shared.config.classes import CAMERAS, LIDAR
from shared.data.features import Frame
from shared.data.sensor_drop import Absent
from shared.data.targets import trainable_annotations
from stage1_extract.nuscenes.records import SampleRecord
from stage1_extract.preprocessing.absent_input import blacken, zero_voxels
from stage1_extract.preprocessing.grid_mask import mask_stripes
from stage1_extract.preprocessing.images import img_from_lidar
from stage1_extract.preprocessing.raw_frames import RawFrame
from stage1_extract.preprocessing.variant_geometry import (
    augment_annotations,
    ego_from_augmented,
    img_from_augmented,
)
from stage1_extract.preprocessing.voxels import Voxels
from stage2_train.data.sampler import Place


class PreparedFrames(Dataset[tuple[RawFrame, Absent]]):
    """Prepared samples by place; `Place.variant` is `camera variant * K + LiDAR variant`.

    The LiDAR variant is that of the boxes, too. The files are mapped into memory, not read.

    Args:
        folders: prepared folders of scene sets.
        records: the samples of each.
        preparation: what the folders hold.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        records: Sequence[Sequence[SampleRecord]],
        preparation: Preparation,
    ) -> None:
        self.preparation = preparation
        self.records = [record for own in records for record in own]
        self._index = {record.token: index for index, record in enumerate(self.records)}
        self._places = [(file, row) for file, own in enumerate(records) for row in range(len(own))]
        self._pixels, self._ends, self._means, self._voxel_places = (
            [np.load(folder / name, mmap_mode="r") for folder in folders]
            for name in (PIXELS, CLOUD_ENDS, MEANS, PLACES)
        )
        self._nothing = zero_voxels(preparation.preset)

    @property
    def variants(self) -> int:
        """Combinations of a camera variant and a LiDAR variant."""
        return self.preparation.variants**2

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, place: Place) -> tuple[RawFrame, Absent]:
        camera_variant, lidar_variant = divmod(place.variant, self.preparation.variants)
        images, stripes, matrices = self._images(place.sample, camera_variant, place.absent)
        record, preset = self.records[place.sample], self.preparation.preset
        variant = self.preparation.variant(record, lidar_variant)
        annotations = augment_annotations(record.annotations, variant)
        frame = Frame(
            token=record.token,
            scene=record.scene,
            timestamp_us=record.timestamp_us,
            variant=place.variant,
            img_from_lidar=img_from_augmented(matrices, variant),
            ego_from_lidar=ego_from_augmented(record.ego_from_lidar, variant),
            global_from_ego=record.global_from_ego,
            annotations=trainable_annotations(annotations, preset.grid),
        )
        voxels = (
            self._nothing
            if LIDAR in place.absent
            else self._voxels(*self._places[place.sample], lidar_variant)
        )
        raw = RawFrame(frame=frame, images=images, voxels=voxels, stripes=stripes)
        return raw, place.absent

    def frame(self, token: str) -> Frame:
        """Return a sample as recorded, without its sensors."""
        raw, _ = self[Place(0, self._index[token], (LIDAR, *CAMERAS))]
        return raw.frame

    def _images(
        self, sample: int, variant: int, absent: Absent
    ) -> tuple[Tensor, NDArray[np.bool_] | None, NDArray[np.float64]]:
        """Return images and stripes of a `RawFrame`, (V, 4, 4) projections of recorded points."""
        camera, record = self.preparation.camera, self.records[sample]
        file, row = self._places[sample]
        drawn = self.preparation.variant(record, variant)
        assert drawn.image is not None
        pixels = np.moveaxis(self._pixels[file][row, variant], -1, 1)
        images, stripes = torch.from_numpy(np.array(pixels, order="C")), None
        if drawn.grid_mask is not None:
            own = mask_stripes(drawn.grid_mask, camera.height_px, camera.width_px)
            stripes = np.tile(own, (len(CAMERAS), 1))
        blacken(images, stripes, [v for v, name in enumerate(CAMERAS) if name in absent])
        matrices = [img_from_lidar(view, drawn.image, camera) for view in record.cameras]
        return images, stripes, np.stack(matrices)

    def _voxels(self, file: int, row: int, variant: int) -> Voxels:
        cloud = row * self.preparation.variants + variant
        begin, end = self._ends[file][cloud : cloud + 2]
        means = torch.from_numpy(np.array(self._means[file][begin:end]))  # (M, 5)
        places = torch.from_numpy(self._voxel_places[file][begin:end].astype(np.int32))
        return Voxels(means=means, coordinates=places)
