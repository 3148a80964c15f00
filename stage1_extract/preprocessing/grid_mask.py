"""GridMask: squares on a regular grid are masked out of every image.

The mask is applied to the normalised image, so a masked pixel has the mean colour, not black.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MARGIN = 1.5  # upstream lays the grid over an area this much larger and keeps its middle


@dataclass(frozen=True, kw_only=True, slots=True)
class GridMask:
    """Rows and columns of stripes that are kept; everything in neither is masked out.

    Args:
        period_px: from one stripe to the next.
        stripe_px: width of a stripe.
        row_offset_px, column_offset_px: where the first stripe begins, less than a period, counted
            from a quarter of the image's size above and left of it.

    Upstream: one more stripe might fit before the first; it is left out.
    """

    period_px: int
    stripe_px: int
    row_offset_px: int
    column_offset_px: int


def mask_pixels(mask: GridMask, height_px: int, width_px: int) -> NDArray[np.float32]:
    """Return (height, width) float32, 1 where a pixel is kept and 0 where it is masked out.

    Source: CMT, grid_mask.py, `GridMask.forward` with the settings of `CmtDetector`: rows and
    columns, mode 1 (keep the stripes), no offset colours, rotation below 1 degree, that is none.
    """
    rows = _stripes(mask, mask.row_offset_px, height_px)
    columns = _stripes(mask, mask.column_offset_px, width_px)
    return (rows[:, None] | columns).astype(np.float32)


def apply_grid_mask(images: NDArray[np.float32], mask: GridMask) -> None:
    """Mask out pixels of images (..., H, W) float32 in place, the same in all of them.

    Upstream: one mask for all images of a batch, here for all images of a sample.
    """
    images *= mask_pixels(mask, *images.shape[-2:])


def _stripes(mask: GridMask, offset_px: int, length_px: int) -> NDArray[np.bool_]:
    """Return (length,) bool, True on a stripe."""
    grid_px = int(MARGIN * length_px)
    stripes = np.zeros(grid_px, np.bool_)
    for number in range(grid_px // mask.period_px):
        begin = number * mask.period_px + offset_px
        stripes[begin : begin + mask.stripe_px] = True
    first = (grid_px - length_px) // 2
    return stripes[first : first + length_px]
