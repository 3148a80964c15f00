"""Pictures judged by what they show, not by the name or the header of their file."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

LEAST_PX = 100  # of either side
COLOUR_STEPS = 2  # of 255, by which a renderer may be off


def decoded(path: Path) -> NDArray[np.uint8]:
    """Return the pixels of a PNG, (rows, columns, 3) RGB; fail if it shows nothing."""
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n"), path
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert pixels is not None, f"{path} cannot be decoded"
    assert min(pixels.shape[:2]) >= LEAST_PX, f"{path} is {pixels.shape}"
    assert pixels.std() > 1, f"{path} is a single colour"
    return np.asarray(pixels, np.uint8)


def count_of(pixels: NDArray[np.uint8], colour: tuple[float, ...]) -> int:
    """Return how many pixels have a colour, given as matplotlib does: R, G, B, ... in 0..1."""
    wanted = np.rint(np.array(colour[:3]) * 255)
    gap = np.abs(pixels.astype(np.int64) - wanted).max(axis=-1)
    return int((gap <= COLOUR_STEPS).sum())
