"""The raw input of absent sensors: black images, and a cloud whose numbers are all 0."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from shared.config.classes import CAMERAS
from shared.config.preset import CameraBranch, Preset
from stage1_extract.preprocessing.sweeps import COLUMNS
from stage1_extract.preprocessing.variant import Variant
from stage1_extract.preprocessing.variant_geometry import augment_points
from stage1_extract.preprocessing.voxels import Voxelizer, Voxels

RECORDED = Variant()


def black_images(camera: CameraBranch) -> torch.Tensor:
    """Return (V, 3, height, width) uint8: pixels of 0."""
    return torch.zeros((len(CAMERAS), 3, camera.height_px, camera.width_px), dtype=torch.uint8)


def blacken(images: torch.Tensor, stripes: NDArray[np.bool_] | None, views: Sequence[int]) -> None:
    """Make images of a sample black, in place, in any variant without GridMask's holes.

    Null features are the answer to the recorded sample as well: docs/fidelity.md.

    Args:
        images: (V, 3, height, width) uint8.
        stripes: (V, height + width), see `RawFrame`.
        views: which images.
    """
    images[views] = 0
    if stripes is not None:
        stripes[views] = True


def zero_voxels(preset: Preset, variant: Variant = RECORDED) -> Voxels:
    """Return the voxels of a cloud in which every number is 0, moved as the variant moves it."""
    assert preset.lidar is not None
    points = np.zeros((preset.lidar.max_points_per_voxel, COLUMNS), np.float32)
    return Voxelizer(preset.grid, preset.lidar)(torch.from_numpy(augment_points(points, variant)))
