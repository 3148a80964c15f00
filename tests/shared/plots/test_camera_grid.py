"""Every camera has one place in the grid, where it looks from the car."""

from matplotlib.figure import Figure

from shared.config.classes import CAMERAS
from shared.plots.camera_grid import CAMERA_COLUMNS, CAMERA_GRID, CAMERA_ROWS, camera_axes


def test_the_grid_holds_every_camera_once_front_above_back_and_left_to_right() -> None:
    assert sorted(name for row in CAMERA_GRID for name in row) == sorted(CAMERAS)
    for row, direction in zip(CAMERA_GRID, ("FRONT", "BACK"), strict=True):
        left, middle, right = row
        assert middle == f"CAM_{direction}"
        assert (left, right) == (f"{middle}_LEFT", f"{middle}_RIGHT")


def test_the_axes_stand_in_the_cells_from_the_first_on() -> None:
    figure = Figure()
    grid = figure.add_gridspec(1 + CAMERA_ROWS, 2 + CAMERA_COLUMNS)

    axes = dict(camera_axes(figure, grid, top=1, left=2))

    places = {
        name: (cell.rowspan.start, cell.colspan.start)
        for name, cell in ((name, place.get_subplotspec()) for name, place in axes.items())
    }
    assert places["CAM_FRONT_LEFT"] == (1, 2)
    assert places["CAM_BACK_RIGHT"] == (2, 4)
    assert len(set(places.values())) == len(CAMERAS)
