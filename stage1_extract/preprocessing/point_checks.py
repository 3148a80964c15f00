"""Whether the numbers of a LiDAR file are points at all: a file of another layout reads, too.

float64, four columns or swapped bytes give any number of rows of five float32, most of them
nonsense. The limits are what the sensor can write: nuScenes' HDL-32E counts 32 rings and intensity
in whole numbers and reaches 131 m at most. Every real frame has 0 implausible points, up to 105 m.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.errors import DatasetError
from shared.file_kinds import foreign_kind

FARTHEST_M = 200.0
BRIGHTEST = 255.0
LAST_RING = 31
LOWEST = np.array([-FARTHEST_M] * 3 + [0, 0])
HIGHEST = np.array([FARTHEST_M] * 3 + [BRIGHTEST, LAST_RING])
# A row of zeros would be a return from inside the sensor; real frames have none in 34,700. The
# smallest hole that a disk leaves, 512 bytes, is 25 rows.
MOST_ZERO_ROWS = 0.0005

# What other tools write instead of five little-endian float32; looked for only to say so.
LAYOUTS = (("<f8", 5), (">f4", 5), (">f8", 5), ("<f4", 4), ("<f4", 6), ("<f8", 4), ("<f8", 6))
EXPECTED = (
    f"expected rows of x, y, z within {FARTHEST_M:g} m, intensity 0 to {BRIGHTEST:g}, and ring, a "
    f"whole number 0 to {LAST_RING}, as little-endian float32"
)


def require_plausible(points: NDArray[np.float32], file: Path) -> None:
    """Refuse points that the sensor cannot have written.

    Args:
        points: (P, 5) float32 as read: x y z in metres, intensity, ring; P above 0.
        file: for the message.

    Raises:
        DatasetError: if any point is not finite or out of range, if more than `MOST_ZERO_ROWS` are
            zeros throughout, or if intensities were scaled to 0..1.
    """
    columns = np.ascontiguousarray(points.T)  # a tenth of the time of reductions over rows
    lowest, highest = columns.min(axis=1), columns.max(axis=1)  # NaN if a column has one
    rings = columns[4]
    if not ((lowest >= LOWEST) & (highest <= HIGHEST)).all() or (rings != np.rint(rings)).any():
        raise DatasetError(_implausible(points, file))
    zero_rows = int((columns == 0).all(axis=0).sum()) if (columns[0] == 0).any() else 0
    if zero_rows > MOST_ZERO_ROWS * len(points):
        raise DatasetError(
            f"LiDAR file {file}: {zero_rows} of {len(points)} points are zeros throughout, real "
            "files have none; part of the file was lost, so unpack or download it again"
        )
    intensity = columns[3]
    if highest[3] <= 1 and (intensity != np.rint(intensity)).any():
        raise DatasetError(
            f"LiDAR file {file}: intensities are fractions of 1 (the largest is {highest[3]:g}), "
            "the detectors were trained with 0 to 255; multiply them by 255 or unpack it again"
        )


def what_points_are(values: NDArray[np.uint8], file: Path) -> str:
    """Say what a file is that does not hold rows of five float32, and what to do."""
    kind = foreign_kind(file)
    if kind is not None:
        return f"it is {kind}"
    layout = _other_layout(values)
    if layout is not None:
        return f"it reads as points in {layout}; convert it to five columns of float32"
    return "it is truncated, damaged, or of an unknown layout or unit; unpack or download it again"


def _other_layout(values: NDArray[np.uint8]) -> str | None:
    """Return in which layout the bytes of a file do read as points, None if in none known."""
    for kind, columns in LAYOUTS:
        if not values.size or values.size % (np.dtype(kind).itemsize * columns):
            continue
        points = values.view(kind).reshape(-1, columns)[:, :5].astype(np.float64)
        lowest, highest = LOWEST[: points.shape[1]], HIGHEST[: points.shape[1]]
        sensible = ((points >= lowest) & (points <= highest)).all()
        whole_rings = (points[:, 4:] == np.rint(points[:, 4:])).all()
        # Bytes in the wrong order are tiny numbers, within all limits.
        if sensible and whole_rings and np.abs(points[:, :2]).max() > 1:
            order = "big-endian" if kind.startswith(">") else "little-endian"
            return f"{columns} columns of {order} float{8 * np.dtype(kind).itemsize}"
    return None


def _implausible(points: NDArray[np.float32], file: Path) -> str:
    """Return the message for a file with points out of range."""
    with np.errstate(invalid="ignore"):  # signalling NaNs of foreign bytes
        plausible = ((points >= LOWEST) & (points <= HIGHEST)).all(axis=1)
        plausible &= points[:, 4] == np.rint(points[:, 4])
        what = what_points_are(points.reshape(-1).view(np.uint8), file)
    first = int(plausible.argmin())
    row = ", ".join(f"{value:.4g}" for value in points[first])
    return (
        f"LiDAR file {file}: {int((~plausible).sum())} of {len(points)} points are implausible, "
        f"the first is number {first} ({row}); {EXPECTED}; {what}"
    )
