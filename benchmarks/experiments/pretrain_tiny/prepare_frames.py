"""Prepare the frames of a scene set once: every variant of its images and of its clouds.

S samples, K variants, V views, M voxels of all clouds.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from shared.config.augmentation import VariantDraws, official_augmentation
from shared.config.preset import CameraBranch, LidarBranch, Preset
from shared.process.whole_file import whole_file
from stage1_extract.nuscenes.records import SampleRecord
from stage1_extract.preprocessing.images import decode_jpeg, transform_pixels
from stage1_extract.preprocessing.sweeps import load_points
from stage1_extract.preprocessing.variant import Variant, draw_variant
from stage1_extract.preprocessing.variant_geometry import augment_points
from stage1_extract.preprocessing.voxels import Voxelizer

PIXELS = "pixels.npy"  # (S, K, V, H, W, 3) uint8, BGR
CLOUD_ENDS = "cloud_ends.npy"  # (S * K + 1,) int64, where each cloud's voxels begin and end
MEANS = "voxel_means.npy"  # (M, 5) float32
PLACES = "voxel_places.npy"  # (M, 3) int16, z y x

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Preparation:
    """What frames are prepared for.

    Args:
        preset: the detector, of both sensors.
        sweeps: previous sweeps merged into a keyframe at most.
        variants: K; variant 0 is the sample as recorded.
    """

    preset: Preset
    sweeps: int
    variants: int

    @property
    def name(self) -> str:
        """Name of the folder."""
        return f"{self.preset.name}_{self.sweeps}_sweeps_{self.variants}_variants"

    @property
    def camera(self) -> CameraBranch:
        """The camera branch, which must exist."""
        assert self.preset.camera is not None
        return self.preset.camera

    @property
    def lidar(self) -> LidarBranch:
        """The LiDAR branch, which must exist."""
        assert self.preset.lidar is not None
        return self.preset.lidar

    def variant(self, record: SampleRecord, number: int) -> Variant:
        """Return a variant of a sample, as a store with variants has it."""
        draws = VariantDraws(augmentation=official_augmentation(self.preset))
        return draw_variant(
            record.token,
            number,
            seed=draws.seed,
            camera=self.preset.camera,
            augmentation=draws.augmentation,
        )


def prepare_frames(folder: Path, records: Sequence[SampleRecord], preparation: Preparation) -> Path:
    """Write the prepared frames of a scene set, unless they are there.

    Args:
        folder: of the set's prepared frames.
        records: all samples of the set.
        preparation: what to write.

    Returns:
        The folder with the four files.
    """
    out = folder / preparation.name
    out.mkdir(parents=True, exist_ok=True)
    if (out / PIXELS).exists():  # written last
        return out
    log.info("preparing %s: %d samples", out, len(records))
    clouds = list(_clouds(records, preparation))
    ends = np.cumsum([0, *(len(places) for _, places in clouds)])
    pixels = np.stack([_pixels(record, preparation) for record in records])
    for name, values in (
        (CLOUD_ENDS, ends),
        (MEANS, np.concatenate([means for means, _ in clouds])),
        (PLACES, np.concatenate([places for _, places in clouds])),
        (PIXELS, pixels),
    ):
        with whole_file(out / name) as file:
            np.save(file, values)
    return out


def _pixels(record: SampleRecord, preparation: Preparation) -> NDArray[np.uint8]:
    """Return (K, V, H, W, 3) uint8 images of a sample."""
    camera = preparation.camera
    shape = (preparation.variants, len(record.cameras), camera.height_px, camera.width_px, 3)
    images = np.empty(shape, np.uint8)
    for index, view in enumerate(record.cameras):
        recorded = decode_jpeg(view.file, camera.raw_height_px, camera.raw_width_px)
        for number in range(preparation.variants):
            transform = preparation.variant(record, number).image
            assert transform is not None
            images[number, index] = transform_pixels(recorded, transform, camera)
    return images


def _clouds(
    records: Sequence[SampleRecord], preparation: Preparation
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int16]]]:
    """Yield means (M, 5) and places (M, 3) of the voxels of every sample in every variant."""
    lidar = preparation.lidar
    voxelize = Voxelizer(preparation.preset.grid, lidar)
    for record in records:
        points = load_points(
            record,
            min(preparation.sweeps, lidar.sweeps),
            drop_close_points=lidar.drop_close_points,
            pad_without_sweeps=lidar.pad_without_sweeps,
        )
        for number in range(preparation.variants):
            variant = preparation.variant(record, number)
            moved = augment_points(points, variant)
            voxels = voxelize(torch.from_numpy(moved), variant.max_voxels)
            yield voxels.means.numpy(), voxels.coordinates.numpy().astype(np.int16)
