"""Where the pictures of the six cameras stand in every figure: as they look from the car.

Source: ours. Adds axes to the figure that it is given, so nothing here needs matplotlib.
"""

from collections.abc import Iterator
from typing import Any

CAMERA_GRID = (
    ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT"),
    ("CAM_BACK_LEFT", "CAM_BACK", "CAM_BACK_RIGHT"),
)
CAMERA_ROWS, CAMERA_COLUMNS = len(CAMERA_GRID), len(CAMERA_GRID[0])


def camera_axes(
    figure: Any, grid: Any, *, top: int = 0, left: int = 0
) -> Iterator[tuple[str, Any]]:
    """Yield the name of each camera with new axes for its picture.

    Args:
        figure: a figure of matplotlib, or a part of one.
        grid: its grid, of which `CAMERA_ROWS` by `CAMERA_COLUMNS` cells are used.
        top: row of the first cell.
        left: column of the first cell.
    """
    for row, names in enumerate(CAMERA_GRID, start=top):
        for column, name in enumerate(names, start=left):
            yield name, figure.add_subplot(grid[row, column])
