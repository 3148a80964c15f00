"""Images that are too bright, or dark and noisy.

The arithmetic of a pixel depends on two bytes, so every result is looked up in a table.
"""

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainc, gammaln, ndtr, xlogy

from stage1_extract.conditions.condition import Pixels
from stage1_extract.conditions.draw import Draw

WHITE = 255
LEVELS = 256
GAMMA = 2.0
CHANCES = 2**16  # steps in which a random number decides on a noisy level


def brighten(pixels: Pixels, tenths: int) -> Pixels:
    """Add to the value of HSV, clipped at white; hue and saturation stay.

    With them every channel is in proportion to the value, their maximum: c' = c * v' / v.

    Args:
        pixels: (H, W, 3) uint8.
        tenths: of white that is added to the value.

    Source: MultiCorrupt, converter/img.py, brightness; truncated to whole levels as there. Whole
    numbers give the exact result, upstream's floating point is a level below it here and there.
    """
    blue, green, red = cv2.split(pixels)
    rows = np.maximum(np.maximum(blue, green), red).astype(np.intp) << 8
    bright: Pixels = _brighter(tenths).reshape(-1)[rows[:, :, None] | pixels]
    return bright


def darken(pixels: Pixels, draw: Draw, brightest: float, photons: int, noise: float) -> Pixels:
    """Take light away and add the noise that comes with little light.

    The range of the image is mapped to 0..brightest with a gamma of 2; a Poisson number of photons
    and a normal number then replace each value, which is clipped to black and white.

    Args:
        pixels: (H, W, 3) uint8. A single-coloured image, whose range is empty, becomes black.
        draw: a number per pixel and channel.
        brightest: where the brightest value goes; 1 is white.
        photons: that make up white.
        noise: deviation of the normal noise; 1 is white.

    Source: MultiCorrupt, converter/img.py, dark. Upstream draws Poisson and normal numbers, which
    takes 0.5 s an image; here a table has the distribution of the result in steps of 1/65536.
    """
    table = _noisy_levels(pixels, brightest, photons, noise)
    chances = draw.bits16(*pixels.shape)
    dark: Pixels = table.reshape(-1)[(pixels.astype(np.intp) << 16) | chances]
    return dark


def noisy_distribution(
    levels: NDArray[np.float64], photons: int, noise: float
) -> NDArray[np.float64]:
    """Return the probability that a level ends as at most 0, 1, ..., 255.

    Args:
        levels: (L,) float64 after mapping, 0..1.
        photons: that make up white.
        noise: deviation of the normal noise; 1 is white.

    Returns:
        (L, 256) float64.
    """
    counts = np.arange(photons + 1)
    expected = levels[:, None] * photons  # (L, 1)
    likely = np.exp(xlogy(counts, expected) - expected - gammaln(counts + 1))  # (L, photons + 1)
    likely[:, -1] = gammainc(photons, expected[:, 0])  # so many or more: white
    limits = np.arange(1, LEVELS + 1) / WHITE
    below = ndtr((limits - counts[:, None] / photons) / noise)  # (photons + 1, 256)
    below[:, -1] = 1  # clipped
    distribution: NDArray[np.float64] = likely @ below
    return distribution


def _noisy_levels(
    pixels: Pixels, brightest: float, photons: int, noise: float
) -> NDArray[np.uint8]:
    """Return (256, 65536) uint8: what a level becomes, by chance."""
    darkest, lightest = int(pixels.min()), int(pixels.max())
    span = max(lightest - darkest, 1)
    mapped = np.clip((np.arange(LEVELS) - darkest) / span, 0, 1) ** GAMMA * brightest
    table = np.zeros((LEVELS, CHANCES), np.uint8)
    occurring = slice(darkest, lightest + 1)
    ends = np.rint(noisy_distribution(mapped[occurring], photons, noise) * CHANCES).astype(np.intp)
    lengths = np.diff(np.maximum.accumulate(ends, axis=1), axis=1, prepend=0)
    for row, length in zip(table[occurring], lengths, strict=True):
        row[:] = np.repeat(np.arange(LEVELS, dtype=np.uint8), length)
    return table


def _brighter(tenths: int) -> NDArray[np.uint8]:
    """Return (256, 256) uint8: what a channel becomes, by value and channel."""
    value = np.arange(LEVELS)
    raised = np.minimum(10 * value + tenths * WHITE, 10 * WHITE)  # in tenths of a level
    channel = np.minimum(np.arange(LEVELS), value[:, None])  # no channel is above the value
    table = raised[:, None] * channel // np.maximum(10 * value, 1)[:, None]
    table[0] = raised[0] // 10  # black has no saturation, so it becomes grey
    return np.asarray(table, np.uint8)
