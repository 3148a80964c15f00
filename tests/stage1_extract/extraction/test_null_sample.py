"""What an absent sensor looks like, by hand: in the recorded sample and in an augmented one.

Expected values follow from the order of CMT's training pipeline (cmt_voxel0100_r50_800x320_cbgs):
ModalMask3D multiplies by 0, GlobalRotScaleTransAll rotates, scales and shifts, CustomRandomFlip3D
flips; images are normalised, then the detector multiplies them by its GridMask.
"""

import numpy as np
import torch

from shared.config.preset_catalogue import tiny
from stage1_extract.preprocessing.absent_input import black_images, blacken, zero_voxels
from stage1_extract.preprocessing.grid_mask import GridMask, mask_stripes
from stage1_extract.preprocessing.images import normalised
from stage1_extract.preprocessing.variant import Variant

MOVED = Variant(
    rotation_rad=0.7, scale=1.1, translation_m=(0.25, -0.75, 0.5), flip_y=True, points_order_seed=3
)
MASK = GridMask(period_px=20, stripe_px=10, row_offset_px=3, column_offset_px=7)


def test_a_black_pixel_is_the_negative_mean_in_deviations() -> None:
    camera = tiny().camera
    assert camera is not None
    images = normalised(black_images(camera), camera)
    for channel, value in enumerate((-103.530 / 57.375, -116.280 / 57.120, -123.675 / 58.395)):
        torch.testing.assert_close(images[:, channel], torch.full_like(images[:, channel], value))


def test_black_images_of_a_variant_have_its_holes_in_the_mean_colour() -> None:
    camera = tiny().camera
    assert camera is not None
    pixels = black_images(camera)
    stripes = np.tile(mask_stripes(MASK, camera.height_px, camera.width_px), (len(pixels), 1))
    black = normalised(pixels, camera)
    masked = normalised(pixels, camera, torch.from_numpy(stripes))
    holes = masked == 0
    assert torch.equal(masked[~holes], black[~holes])
    assert 0.2 < holes.float().mean() < 0.3  # half of the rows times half of the columns
    assert torch.equal(holes, holes[:1, :1].expand_as(holes))


def test_an_image_that_is_made_black_loses_its_holes() -> None:
    camera = tiny().camera
    assert camera is not None
    pixels = torch.full_like(black_images(camera), 7)
    stripes = np.tile(mask_stripes(MASK, camera.height_px, camera.width_px), (len(pixels), 1))
    before = stripes.copy()
    blacken(pixels, stripes, [1, 4])
    for view, (image, kept) in enumerate(zip(pixels, stripes, strict=True)):
        assert image.unique().tolist() == [0 if view in (1, 4) else 7]
        assert kept.all() == (view in (1, 4))
        assert kept.all() or np.array_equal(kept, before[view])


def test_an_absent_cloud_is_one_voxel_of_zeros_around_the_sensor() -> None:
    preset = tiny()
    voxels = zero_voxels(preset)
    low, size = preset.grid.point_range_m[:3], preset.grid.voxel_m
    expected = [int(-low[axis] / size[axis]) for axis in (2, 1, 0)]
    assert voxels.coordinates.tolist() == [expected]
    assert not voxels.means.any()


def test_an_absent_cloud_of_a_variant_is_one_voxel_at_its_shift() -> None:
    preset = tiny()
    voxels = zero_voxels(preset, MOVED)
    x_m, y_m, z_m = 0.25, 0.75, 0.5  # rotation and scale leave the origin; the flip comes last
    low, size = preset.grid.point_range_m[:3], preset.grid.voxel_m
    expected = [int((at - low[i]) / size[i]) for i, at in ((2, z_m), (1, y_m), (0, x_m))]
    assert voxels.coordinates.tolist() == [expected]
    assert voxels.means.tolist() == [[x_m, y_m, z_m, 0.0, 0.0]]
