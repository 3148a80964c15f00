"""GridMask: squares on a regular grid are masked out of every image.

The mask is applied to the normalised image, so a masked pixel has the mean colour, not black. It
travels beside the pixels, as its stripes, to the device that normalises them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

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


def mask_stripes(mask: GridMask, height_px: int, width_px: int) -> NDArray[np.bool_]:
    """Return (height + width,) bool, True for rows, then for columns, on a stripe.

    Source: CMT, grid_mask.py, `GridMask.forward` with the settings of `CmtDetector`: rows and
    columns, mode 1 (keep the stripes), no offset colours, rotation below 1 degree, that is none.
    """
    rows = _stripes(mask, mask.row_offset_px, height_px)
    return np.concatenate([rows, _stripes(mask, mask.column_offset_px, width_px)])


def mask_out(images: Tensor, stripes: Tensor) -> None:
    """Multiply the pixels on no stripe by 0, in place, as upstream does: a negative one gets -0.

    Upstream: one mask for all images of a batch, here for all images of a sample.

    Args:
        images: (..., 3, H, W) float32, normalised.
        stripes: (..., H + W) bool on any device, see `mask_stripes`.
    """
    stripes = stripes.to(images.device, non_blocking=True)
    height_px = images.shape[-2]
    rows, columns = stripes[..., :height_px], stripes[..., height_px:]
    images *= (rows.unsqueeze(-1) | columns.unsqueeze(-2)).unsqueeze(-3)


def _stripes(mask: GridMask, offset_px: int, length_px: int) -> NDArray[np.bool_]:
    """Return (length,) bool, True on a stripe."""
    grid_px = int(MARGIN * length_px)
    stripes = np.zeros(grid_px, np.bool_)
    for number in range(grid_px // mask.period_px):
        begin = number * mask.period_px + offset_px
        stripes[begin : begin + mask.stripe_px] = True
    first = (grid_px - length_px) // 2
    return stripes[first : first + length_px]
