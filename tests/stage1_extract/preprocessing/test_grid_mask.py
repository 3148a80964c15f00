"""The grid mask keeps stripes and masks out squares where upstream does."""

import numpy as np

from stage1_extract.preprocessing.grid_mask import GridMask, apply_grid_mask, mask_pixels

MASK = GridMask(period_px=3, stripe_px=1, row_offset_px=1, column_offset_px=0)


def test_the_mask_is_the_middle_of_a_grid_larger_than_the_image() -> None:
    """Rows 1 and 4 of 6, seen from row 1; columns 0, 3 and 6 of 9, seen from column 1."""
    expected = np.array(
        [
            [1, 1, 1, 1, 1, 1],
            [0, 0, 1, 0, 0, 1],
            [0, 0, 1, 0, 0, 1],
            [1, 1, 1, 1, 1, 1],
        ],
        np.float32,
    )
    np.testing.assert_array_equal(mask_pixels(MASK, 4, 6), expected)


def test_there_is_no_stripe_before_the_first_nor_beyond_a_whole_period() -> None:
    """One period of 5 rows fits into 6: its stripe begins at row 4, and none at -1."""
    mask = GridMask(period_px=5, stripe_px=3, row_offset_px=4, column_offset_px=4)
    np.testing.assert_array_equal(
        mask_pixels(mask, 4, 4),
        [[0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 1], [1, 1, 1, 1]],
    )


def test_a_period_longer_than_the_grid_masks_out_everything() -> None:
    mask = GridMask(period_px=7, stripe_px=3, row_offset_px=0, column_offset_px=0)
    assert not mask_pixels(mask, 4, 4).any()


def test_the_mask_is_the_same_in_every_image_and_channel() -> None:
    images = np.random.default_rng(0).normal(size=(2, 3, 4, 6)).astype(np.float32)
    masked = images.copy()
    apply_grid_mask(masked, MASK)
    unmasked = mask_pixels(MASK, 4, 6) == 1
    assert masked.dtype == np.float32
    np.testing.assert_array_equal(masked[..., unmasked], images[..., unmasked])
    assert not masked[..., ~unmasked].any()
