"""A panel of cached features: their three strongest principal components as red, green, blue."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from shared.config.classes import CAMERAS
from shared.data.features import FrameFeatures, as_floats
from shared.plots.camera_grid import CAMERA_COLUMNS, CAMERA_ROWS, camera_axes

COMPONENTS = 3
SHOWN_PERCENTILES = (1.0, 99.0)


def plot_features(features: FrameFeatures, path: Path) -> None:
    """Write the panel: the six cameras for each camera map, and a column for each BEV map."""
    matplotlib.use("Agg")
    maps = {name: as_floats(values) for name, values in features.maps.items()}
    cameras = {name: values for name, values in maps.items() if values.ndim == 4}
    bevs = {name: values for name, values in maps.items() if values.ndim == 3}
    figure = Figure(figsize=(20, 7), layout="constrained", facecolor="white")
    columns = CAMERA_COLUMNS if cameras else 0
    grid = figure.add_gridspec(
        max(1, CAMERA_ROWS * len(cameras)),
        columns + len(bevs),
        width_ratios=[1] * columns + [1.4] * len(bevs),
    )
    for i, (name, values) in enumerate(cameras.items()):
        pictures = principal_colours(np.moveaxis(values, 1, -1))  # (V, H, W, 3)
        for camera, axes in camera_axes(figure, grid, top=CAMERA_ROWS * i):
            axes.imshow(pictures[CAMERAS.index(camera)])
            axes.set(xticks=[], yticks=[])
            axes.set_title(f"{name} {camera}", fontsize=8)
    for i, (name, values) in enumerate(bevs.items()):
        axes = figure.add_subplot(grid[:, columns + i])
        # Row 0 of a BEV map is y_min: it goes to the bottom, so that forward is up.
        axes.imshow(principal_colours(np.moveaxis(values, 0, -1)), origin="lower")
        axes.set(xticks=[], yticks=[])
        axes.set_title(f"{name} {tuple(values.shape)}", fontsize=9)
    figure.suptitle(
        f"{features.frame.token}: principal components 1 to 3 of each map as red, green, blue",
        fontsize=11,
    )
    figure.savefig(path, dpi=70)


def principal_colours(channels_last: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return (..., 3) colours in 0..1 for (..., C) features, by their principal components."""
    flat = channels_last.reshape(-1, channels_last.shape[-1]).astype(np.float64)
    centred = flat - flat.mean(axis=0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    strongest = vectors[:, -COMPONENTS:][:, ::-1]
    # An eigenvector's sign is arbitrary; fix it so that pictures of different runs look alike.
    strongest = strongest * np.sign(strongest.sum(axis=0) + 1e-12)
    scores = centred @ strongest
    low, high = np.percentile(scores, SHOWN_PERCENTILES, axis=0)
    colours: NDArray[np.float64] = np.clip((scores - low) / np.maximum(high - low, 1e-12), 0, 1)
    return colours.reshape(*channels_last.shape[:-1], COMPONENTS)
