"""Images blurred along a line, as by a shaking camera."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from stage1_extract.conditions.condition import Pixels
from stage1_extract.conditions.draw import Draw

TAPS = 31  # pixels along the line
STEEPEST_DEG = 45.0
ROUNDING = 1 / 1024  # of a level: a sum of float32 may be this much too small before truncation


def blur(pixels: Pixels, draw: Draw, deviation_px: float) -> Pixels:
    """Blur along a line that is drawn at random.

    Args:
        pixels: (H, W, 3) uint8.
        draw: the angle; the same for every severity.
        deviation_px: of the half Gaussian that weighs the pixels of the line.

    Source: MultiCorrupt, converter/img.py, motion blur: radius 15, deviation 100 * sigma.
    """
    angle_rad = math.radians(STEEPEST_DEG * float(2 * draw.uniform(1)[0] - 1))
    padded = cv2.copyMakeBorder(pixels, TAPS, TAPS, TAPS, TAPS, cv2.BORDER_REPLICATE)
    padded = padded.astype(np.float32)
    height, width = pixels.shape[:2]
    blurred = np.full(pixels.shape, ROUNDING, np.float32)
    for (row, column), weight in zip(
        line_px(angle_rad), tap_weights(deviation_px).tolist(), strict=True
    ):
        top, left = TAPS + row, TAPS + column
        cv2.scaleAdd(padded[top : top + height, left : left + width], weight, blurred, blurred)
    return np.minimum(blurred, 255).astype(np.uint8)


def line_px(angle_rad: float) -> list[tuple[int, int]]:
    """Return (rows down, columns right) from a pixel to each of those that it is mixed from."""
    return [
        (math.ceil(tap * math.sin(angle_rad) - 0.5), math.ceil(tap * math.cos(angle_rad) - 0.5))
        for tap in range(TAPS)
    ]


def tap_weights(deviation_px: float) -> NDArray[np.float64]:
    """Return the weights of the pixels on the line, (31,) float64, whose sum is 1."""
    weights = np.exp(-(np.arange(TAPS) ** 2) / (2 * deviation_px**2))
    normalised: NDArray[np.float64] = weights / weights.sum()
    return normalised
