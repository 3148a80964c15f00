"""Dirt on the lens: one of sixteen masks, blended over the image as nuScenes-R blends its masks.

The masks are ours: nuScenes-R's are photographs in an archive that is not redistributed here. A
mask is white where the lens is clean, and has the colour of the dirt elsewhere.
"""

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from stage1_extract.conditions.condition import Pixels
from stage1_extract.conditions.draw import Draw

MASKS = 16
HEIGHT_PX, WIDTH_PX = 225, 400  # resized to the image; dirt on a lens is out of focus anyway
POWER = 3
THICKNESS = 1.4  # of the dirt: what is more than covered is opaque
MUD_BGR, DUST_BGR, WATER_BGR = (28, 42, 56), (120, 140, 150), (96, 96, 92)
SHIFT_BITS = 4  # of fractions of a pixel in OpenCV's coordinates


def soil(pixels: Pixels, draw: Draw) -> Pixels:
    """Blend a mask over an image: a * image + (1 - a) * mask with a = (mask / 255) ** 3.

    Args:
        pixels: (H, W, 3) uint8, BGR.
        draw: which mask, per image.

    Source: nuScenes-R, toolkit, occlusion of the camera lens; with masks of our own.
    """
    number = int(draw.uniform(1)[0] * MASKS)
    height_px, width_px = pixels.shape[:2]
    mask = cv2.resize(lens_mask(number), (width_px, height_px))
    pairs = (mask.astype(np.intp) << 8) | pixels
    soiled: Pixels = _blended().reshape(-1)[pairs]
    return soiled


@cache
def lens_mask(number: int) -> NDArray[np.uint8]:
    """Return a mask, (225, 400, 3) uint8, BGR; `number` is 0 to 15.

    Four kinds: splashes of mud, drops of water, streaks of a wiper or finger, and a film of dust.
    """
    draw = Draw(0, "lens-dirt", str(number), "mask")
    kind = (_mud, _drops, _streaks, _film)[number % 4]
    cover, colour = kind(draw)
    dirt = np.array(colour, np.float64)
    # (mask / 255) ** 3 is the share of the image: a half covered lens is nearly white in the mask.
    clean = np.cbrt(1 - np.clip(cover * THICKNESS, 0, 1))[:, :, None]  # (rows, columns, 1)
    return np.asarray(np.rint(dirt + (255 - dirt) * clean), np.uint8)


def _mud(draw: Draw) -> tuple[NDArray[np.float64], tuple[int, int, int]]:
    """Splashes: large spots with drops around them."""
    cover = np.zeros((HEIGHT_PX, WIDTH_PX), np.float32)
    for x, y, size in draw.uniform(10, 3).tolist():
        _spot(cover, x, y, 8 + 42 * size**2, 0.7 + 0.3 * y)
        for angle, distance, drop in draw.uniform(14, 3).tolist():
            reach = (0.05 + 0.13 * distance) * (0.4 + size)
            turn = 2 * np.pi * angle
            _spot(cover, x + reach * np.cos(turn), y + 1.7 * reach * np.sin(turn), 1 + 7 * drop, 1)
    return cv2.GaussianBlur(cover, (0, 0), 3.5).astype(np.float64), MUD_BGR


def _drops(draw: Draw) -> tuple[NDArray[np.float64], tuple[int, int, int]]:
    """Many round drops, darker at their rim."""
    cover = np.zeros((HEIGHT_PX, WIDTH_PX), np.float32)
    for x, y, size in draw.uniform(110, 3).tolist():
        _spot(cover, x, y, 3 + 12 * size**3, 0.85)
        _spot(cover, x - 0.004, y - 0.008, 1 + 7 * size**3, 0.45)
    return cv2.GaussianBlur(cover, (0, 0), 2.0).astype(np.float64), WATER_BGR


def _streaks(draw: Draw) -> tuple[NDArray[np.float64], tuple[int, int, int]]:
    """Long parallel strokes."""
    cover = np.zeros((HEIGHT_PX, WIDTH_PX), np.float32)
    slant = float(draw.uniform(1)[0]) - 0.5
    for y, x, length, strength in draw.uniform(40, 4).tolist():
        left = np.array([x * WIDTH_PX - 0.3 * WIDTH_PX, (1.4 * y - 0.2) * HEIGHT_PX])
        right = left + np.array([1, slant]) * WIDTH_PX * (0.2 + 0.7 * length)
        ends = [np.rint(end * 2**SHIFT_BITS).astype(int).tolist() for end in (left, right)]
        stroke = np.zeros_like(cover)
        cv2.line(stroke, ends[0], ends[1], 1.0, 1 + int(7 * strength**2), cv2.LINE_8, SHIFT_BITS)
        cover = np.maximum(cover, stroke * (0.3 + 0.6 * strength))
    return cv2.GaussianBlur(cover, (0, 0), 2.5).astype(np.float64), DUST_BGR


def _film(draw: Draw) -> tuple[NDArray[np.float64], tuple[int, int, int]]:
    """A film that is thick in places, from noise at three scales."""
    cover = np.zeros((HEIGHT_PX, WIDTH_PX))
    for cells, share in ((4, 0.6), (9, 0.3), (40, 0.1)):
        noise = draw.uniform(cells, 2 * cells).astype(np.float32)
        cover += share * cv2.resize(noise, (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_CUBIC)
    return np.clip((cover - 0.42) * 3, 0, 0.7), DUST_BGR


def _spot(
    cover: NDArray[np.float32], x: float, y: float, radius_px: float, strength: float
) -> None:
    """Cover a disc; x and y are shares of the mask's sides, its centre may lie outside."""
    centre = (round(x * WIDTH_PX * 2**SHIFT_BITS), round(y * HEIGHT_PX * 2**SHIFT_BITS))
    radius = max(1, round(radius_px * 2**SHIFT_BITS))
    cv2.circle(cover, centre, radius, strength, cv2.FILLED, cv2.LINE_8, SHIFT_BITS)


@cache
def _blended() -> NDArray[np.uint8]:
    """Return (256, 256) uint8: the blend of a mask's level with an image's."""
    level = np.arange(256)
    share = (level / 255) ** POWER
    return np.asarray(share[:, None] * level + ((1 - share) * level)[:, None], np.uint8)
