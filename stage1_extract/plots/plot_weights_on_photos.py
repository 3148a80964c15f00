"""AQR's sensor weights on photos and point cloud, from the file of `plot-sensor-weights`.

S samples, Q queries.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from shared.errors import DatasetError
from shared.plots.camera_grid import CAMERA_COLUMNS, CAMERA_ROWS, camera_axes
from shared.plots.weight_dots import weight_dots
from shared.process.even_samples import evenly_spaced
from stage1_extract.nuscenes.records import Camera, SampleRecord, naming_sample
from stage1_extract.nuscenes.transforms import camera_from_lidar
from stage1_extract.plots.plot_scene import NEAR_M, recorded_pixels
from stage1_extract.preprocessing.sweeps import load_points

PHOTO_DOT, BEV_DOT = 60, 45  # areas, in points squared
PHOTO_SHADE = 0.45  # share of white mixed into a photo, so that dots of any colour stand out
NOT_WEIGHTS = ("tokens", "references_m")


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedSensorWeights:
    """The sensor weights of a run, as `plot-sensor-weights` saved them.

    Args:
        tokens: S samples.
        references_m: (Q, 3) reference points of the queries, metres, LiDAR frame.
        weights: (S, Q, 2) LiDAR, cameras, by condition ("all", "no lidar").
    """

    tokens: tuple[str, ...]
    references_m: NDArray[np.float32]
    weights: Mapping[str, NDArray[np.float32]]


def read_sensor_weights(path: Path) -> SavedSensorWeights:
    """Read a file that `plot-sensor-weights` saved.

    Raises:
        DatasetError: if it is not such a file.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return SavedSensorWeights(
                tokens=tuple(file["tokens"].tolist()),
                references_m=file["references_m"],
                weights={name: file[name] for name in file.files if name not in NOT_WEIGHTS},
            )
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise DatasetError(
            f"{path} holds no sensor weights ({error}); name the .npz file that "
            "plot-sensor-weights writes"
        ) from error


def plot_weights_on_photos(
    records: Sequence[SampleRecord], saved: SavedSensorWeights, out: Path, *, samples: int
) -> None:
    """Write <token>_<condition>.png for some of the samples, spread evenly.

    Raises:
        DatasetError: if a sample is not among the records, or a sensor file is missing or damaged.
    """
    by_token = {record.token: record for record in records}
    for i in evenly_spaced(len(saved.tokens), samples):
        token = saved.tokens[i]
        if token not in by_token:
            raise DatasetError(
                f"sample {token} of the sensor weights is not among the records read"
            )
        for condition, weights in saved.weights.items():
            path = out / f"{token}_{condition.replace(' ', '_')}.png"
            _plot_sample(by_token[token], saved.references_m, weights[i], condition, path)


def _plot_sample(
    record: SampleRecord,
    references_m: NDArray[np.float32],
    weights: NDArray[np.float32],
    condition: str,
    path: Path,
) -> None:
    matplotlib.use("Agg")
    figure = Figure(figsize=(24, 7.4), layout="constrained", facecolor="white")
    grid = figure.add_gridspec(CAMERA_ROWS, CAMERA_COLUMNS + 1, width_ratios=(1.6, 1.6, 1.6, 1.9))
    cameras = {camera.name: camera for camera in record.cameras}
    for name, axes in camera_axes(figure, grid):
        with naming_sample(record):
            _plot_photo(axes, cameras[name], references_m, weights[:, 1])
    bev = figure.add_subplot(grid[:, CAMERA_COLUMNS])
    points = load_points(record, sweeps=0)
    bev.scatter(points[:, 0], points[:, 1], color="0.6", s=0.2, linewidths=0)
    dots = weight_dots(bev, references_m[:, :2], weights[:, 0], BEV_DOT)
    bev.plot(0, 0, marker="^", color="black", markersize=7)
    # A quantile, because a few learnt queries may be far away from all others.
    shown_m = 1.1 * float(np.quantile(np.abs(references_m[:, :2]), 0.99))
    bev.set(xlim=(-shown_m, shown_m), ylim=(-shown_m, shown_m), aspect="equal")
    bev.set_title("LiDAR weight; LiDAR frame (x right, y forward, metres)", fontsize=9)
    figure.colorbar(dots, ax=bev, label="weight: -1 distrust, 0 neutral, 1 trust")
    figure.suptitle(
        f"{record.token}, sensors: {condition}; AQR's weights of queries at their reference points",
        fontsize=11,
    )
    figure.savefig(path, dpi=80)


def _plot_photo(
    axes: Axes,
    camera: Camera,
    references_m: NDArray[np.float32],
    weights: NDArray[np.float32],
) -> None:
    image = recorded_pixels(camera)[..., ::-1]
    height, width = image.shape[:2]
    axes.imshow(PHOTO_SHADE + (1 - PHOTO_SHADE) * image / 255.0)
    matrix = camera_from_lidar(camera.rotation, camera.translation_m)
    places = references_m @ matrix[:3, :3].T + matrix[:3, 3]  # (Q, 3)
    in_front = places[:, 2] > NEAR_M
    pixels = places[in_front] @ camera.intrinsics.T
    weight_dots(axes, pixels[:, :2] / pixels[:, 2:], weights[in_front], PHOTO_DOT)
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    axes.set_title(f"{camera.name}: camera weight", fontsize=9)
