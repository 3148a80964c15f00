"""A panel of features shows where they differ, with forward up and every camera in its place."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.config.classes import CAMERAS
from shared.data.features import FrameFeatures
from stage1_extract.plots.plot_features import plot_features, principal_colours
from tests.cache.conftest import make_features
from tests.pictures import decoded

Values = NDArray[np.float32]


def test_the_strongest_component_becomes_red_and_a_constant_nothing() -> None:
    strong, weak = np.linspace(-9, 9, 50), np.sin(np.linspace(0, 60, 50))
    colours = principal_colours(np.stack([weak, 5 + 0 * strong, strong], axis=-1).reshape(5, 10, 3))
    assert colours.shape == (5, 10, 3)
    assert colours.min() >= 0
    assert colours.max() <= 1
    red, green = colours[..., 0].flatten(), colours[..., 1].flatten()
    assert abs(np.corrcoef(red, strong)[0, 1]) > 0.99
    assert abs(np.corrcoef(green, weak)[0, 1]) > 0.98


def features_with(maps: dict[str, Values]) -> FrameFeatures:
    return FrameFeatures(frame=make_features("ant").frame, maps=maps)


def noisy(shape: tuple[int, ...], marked: tuple[slice | int, ...]) -> Values:
    """Return weak noise, with one place that stands out in all channels."""
    values = np.random.default_rng(0).normal(scale=0.01, size=shape).astype(np.float32)
    values[marked] += 5
    return values


@pytest.mark.parametrize("row", [0, 7])
def test_the_first_row_of_a_bev_map_is_at_the_bottom(tmp_path: Path, row: int) -> None:
    picture = tmp_path / "features.png"
    plot_features(features_with({"lidar/a": noisy((3, 8, 8), (slice(None), row))}), picture)
    pixels = decoded(picture)
    rows = np.flatnonzero(differs(pixels).mean(axis=1) > 0.1)
    assert (rows.mean() > len(pixels) / 2) == (row == 0)


@pytest.mark.parametrize(("camera", "column"), [("CAM_FRONT_LEFT", 0), ("CAM_FRONT_RIGHT", 2)])
def test_a_camera_is_where_it_looks_from_the_car(tmp_path: Path, camera: str, column: int) -> None:
    shape, view = (len(CAMERAS), 3, 6, 9), CAMERAS.index(camera)
    picture = tmp_path / "features.png"
    plot_features(features_with({"camera/a": noisy(shape, (view,))}), picture)
    pixels = decoded(picture)
    rows, columns = np.nonzero(differs(pixels))
    assert rows.mean() < len(pixels) / 2  # the front cameras are above
    third = pixels.shape[1] / 3
    assert column * third < columns.mean() < (column + 1) * third


def differs(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return where a picture has the colour of what stands out: the strongest component's end."""
    red = pixels[..., 0].astype(np.int64)
    is_coloured = np.ptp(pixels, axis=-1) > 30
    inner = np.where(is_coloured, red, -1)
    end = 255 if (inner > 200).sum() < (is_coloured & (red < 55)).sum() else 0
    return is_coloured & (np.abs(red - end) < 55)
