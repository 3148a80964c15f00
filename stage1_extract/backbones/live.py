"""The live source of features: runs raw nuScenes files through the frozen backbones on request.

B samples, V cameras.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from shared.config.augmentation import VariantDraws
from shared.config.cut import Cut
from shared.config.preset import Preset
from shared.data.features import NO_CAMERAS, Frame, FrameFeatures
from shared.errors import MissingRowError
from stage1_extract.backbones.frozen import FrozenBackbones
from stage1_extract.nuscenes.records import SampleRecord
from stage1_extract.preprocessing.images import load_images
from stage1_extract.preprocessing.sweeps import load_points
from stage1_extract.preprocessing.variant import Variant, draw_variant
from stage1_extract.preprocessing.variant_geometry import (
    augment_annotations,
    augment_points,
    ego_from_augmented,
    img_from_augmented,
)
from stage1_extract.preprocessing.voxels import Voxelizer, Voxels, batch_voxels


@dataclass(frozen=True, kw_only=True, slots=True)
class RawFrame:
    """One sample, ready for the backbones.

    Args:
        frame: geometry and annotations.
        images: (V, 3, height, width) float32, normalised; None for a preset without cameras.
        voxels: of this sample; None for a preset without LiDAR.
    """

    frame: Frame
    images: Tensor | None
    voxels: Voxels | None


@dataclass(frozen=True, kw_only=True, slots=True)
class RawBatch:
    """Samples joined for one forward; B of them, of which those after the last row are padding.

    Args:
        rows: the samples, without images and voxels.
        images: (B, V, 3, height, width) float32; None for a preset without cameras.
        voxels: of all samples; None for a preset without LiDAR.
    """

    rows: tuple[RawFrame, ...]
    images: Tensor | None
    voxels: Voxels | None


@contextlib.contextmanager
def fixed_algorithms() -> Iterator[None]:
    """Let cuDNN choose algorithms by the shapes alone, and only reproducible ones.

    If it tried them out, as `benchmark` lets it, two runs could round differently.
    """
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic
    cudnn.benchmark, cudnn.deterministic = False, True
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = before


def join_raw(raw: Sequence[RawFrame], *, size: int = 0, is_pinned: bool = False) -> RawBatch:
    """Join samples for one forward.

    Args:
        raw: at least one sample.
        size: repeat the last sample until there are so many.
        is_pinned: join images in page-locked memory, which a GPU reads while others compute.
    """
    padded = [*raw, *[raw[-1]] * (size - len(raw))]
    pictures = [sample.images for sample in padded if sample.images is not None]
    clouds = [sample.voxels for sample in padded if sample.voxels is not None]
    images = None
    if len(pictures) == 1 and not is_pinned:
        images = pictures[0][None]  # no copy
    elif pictures:
        shape = (len(pictures), *pictures[0].shape)
        images = torch.empty(shape, dtype=pictures[0].dtype, pin_memory=is_pinned)
        torch.stack(pictures, out=images)
    return RawBatch(
        rows=tuple(replace(sample, images=None, voxels=None) for sample in raw),
        images=images,
        voxels=batch_voxels(clouds) if clouds else None,
    )


class RawFrames(Dataset[RawFrame]):
    """Raw samples by variant and position; safe in worker processes.

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
        number, index = place
        record, camera = self.records[index], self.preset.camera
        variant = self._variant(record.token, number)
        images, img_from_lidar = None, NO_CAMERAS
        if camera is not None:
            pixels, img_from_lidar = load_images(record, camera, variant.image, variant.grid_mask)
            images = torch.from_numpy(pixels)
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
            voxels=None if self.preset.lidar is None else self._voxels(record, variant),
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

    def _voxels(self, record: SampleRecord, variant: Variant) -> Voxels:
        lidar = self.preset.lidar
        assert lidar is not None
        if self._voxelizer is None:
            self._voxelizer = Voxelizer(self.preset.grid, lidar, torch.device("cpu"))
        points = load_points(
            record,
            lidar.sweeps,
            drop_close_points=lidar.drop_close_points,
            pad_without_sweeps=lidar.pad_without_sweeps,
        )
        return self._voxelizer(torch.from_numpy(augment_points(points, variant)))


class LiveFeatures:
    """A `FeatureSource` that computes the requested samples, in any variant.

    Args:
        records: the samples.
        frozen: the backbones, on the device on which they are to run.
        variants: how augmented variants are drawn; None if there is only variant 0.
    """

    def __init__(
        self,
        records: Sequence[SampleRecord],
        frozen: FrozenBackbones,
        variants: VariantDraws | None = None,
    ) -> None:
        self.raw = RawFrames(records, frozen.preset, variants)
        self.frozen = frozen
        self._position = {record.token: i for i, record in enumerate(records)}

    @property
    def preset(self) -> Preset:
        """The detector the backbones belong to."""
        return self.frozen.preset

    @property
    def cut(self) -> Cut:
        """Where the frozen part ends."""
        return self.frozen.cut

    @property
    def tokens(self) -> tuple[str, ...]:
        """Tokens of the records, in their order."""
        return tuple(self._position)

    def read(self, tokens: Sequence[str], variant: int = 0) -> list[FrameFeatures]:
        """Load samples and run them as one batch.

        Raises:
            MissingRowError: if there is no such record.
            DatasetError: if a raw file is missing or broken.
        """
        for token in tokens:
            if token not in self._position:
                raise MissingRowError(f"sample {token} is not among the {len(self.raw)} records")
        return self.run([self.raw[variant, self._position[token]] for token in tokens])

    def maps(self, batch: RawBatch) -> dict[str, Tensor]:
        """Run a batch; the maps stay on the device, as `FrozenBackbones.forward` returns them."""
        device = self.frozen.device
        images, voxels = batch.images, batch.voxels
        with fixed_algorithms():
            maps: dict[str, Tensor] = self.frozen(
                None if images is None else images.to(device, non_blocking=True),
                None if voxels is None else voxels.to(device),
            )
        return maps

    def run(self, raw: Sequence[RawFrame]) -> list[FrameFeatures]:
        """Run raw samples as one batch; the returned maps are float32 on the CPU."""
        maps = {
            name: np.asarray(values.float().cpu().numpy())
            for name, values in self.maps(join_raw(raw)).items()
        }
        return [
            FrameFeatures(frame=sample.frame, maps={name: maps[name][i] for name in maps})
            for i, sample in enumerate(raw)
        ]
