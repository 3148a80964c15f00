"""The raw input of absent sensors: black images, and a cloud whose numbers are all 0."""

import numpy as np
import torch

from shared.config.classes import CAMERAS
from shared.config.preset import CameraBranch, Preset
from stage1_extract.preprocessing.grid_mask import apply_grid_mask
from stage1_extract.preprocessing.images import normalise
from stage1_extract.preprocessing.sweeps import COLUMNS
from stage1_extract.preprocessing.variant import Variant
from stage1_extract.preprocessing.variant_geometry import augment_points
from stage1_extract.preprocessing.voxels import Voxelizer, Voxels

RECORDED = Variant()


def black_images(camera: CameraBranch, variant: Variant = RECORDED) -> torch.Tensor:
    """Return (V, 3, height, width) float32: pixels of 0, normalised, with the variant's holes."""
    pixels = np.zeros((camera.height_px, camera.width_px, 3), np.uint8)
    image = np.empty((3, camera.height_px, camera.width_px), np.float32)
    normalise(pixels, camera, out=image)
    if variant.grid_mask is not None:
        apply_grid_mask(image, variant.grid_mask)
    return torch.from_numpy(image).expand(len(CAMERAS), -1, -1, -1)


def zero_voxels(preset: Preset, variant: Variant = RECORDED) -> Voxels:
    """Return the voxels of a cloud in which every number is 0, moved as the variant moves it."""
    assert preset.lidar is not None
    points = np.zeros((preset.lidar.max_points_per_voxel, COLUMNS), np.float32)
    return Voxelizer(preset.grid, preset.lidar)(torch.from_numpy(augment_points(points, variant)))
