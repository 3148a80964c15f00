"""The grid mask keeps stripes and masks out squares where upstream does."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from stage1_extract.preprocessing.grid_mask import GridMask, mask_out, mask_stripes

MASK = GridMask(period_px=3, stripe_px=1, row_offset_px=1, column_offset_px=0)


def left_of(mask: GridMask, height_px: int, width_px: int) -> NDArray[np.float32]:
    """Return what is left of an image of ones, (height, width)."""
    images = torch.ones(3, height_px, width_px)
    mask_out(images, torch.from_numpy(mask_stripes(mask, height_px, width_px)))
    assert torch.equal(images, images[:1].expand_as(images))
    return images[0].numpy()


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
    np.testing.assert_array_equal(left_of(MASK, 4, 6), expected)


def test_there_is_no_stripe_before_the_first_nor_beyond_a_whole_period() -> None:
    """One period of 5 rows fits into 6: its stripe begins at row 4, and none at -1."""
    mask = GridMask(period_px=5, stripe_px=3, row_offset_px=4, column_offset_px=4)
    np.testing.assert_array_equal(
        left_of(mask, 4, 4),
        [[0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 1], [1, 1, 1, 1]],
    )


def test_a_period_longer_than_the_grid_masks_out_everything() -> None:
    mask = GridMask(period_px=7, stripe_px=3, row_offset_px=0, column_offset_px=0)
    assert not left_of(mask, 4, 4).any()


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_each_image_of_a_batch_has_a_mask_of_its_own(device: str) -> None:
    """A pixel that is masked out is multiplied by 0, so that its sign stays, as upstream."""
    images = torch.randn(2, 2, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    stripes = torch.ones(2, 2, 10, dtype=torch.bool)
    stripes[0, 1] = torch.from_numpy(mask_stripes(MASK, 4, 6))
    expected = images.numpy().copy()
    expected[0, 1] *= left_of(MASK, 4, 6)

    masked = images.to(device)
    mask_out(masked, stripes)

    assert np.signbit(expected[expected == 0]).any()
    assert masked.cpu().numpy().tobytes() == expected.tobytes()
