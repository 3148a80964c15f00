"""A picture of a frame: six images and the BEV, with true and predicted boxes.

n boxes, P points.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.gridspec import GridSpecBase
from numpy.typing import NDArray

from shared.plots.camera_grid import CAMERA_COLUMNS, CAMERA_ROWS, camera_axes
from stage1_extract.conditions.apply_condition import SampleChanges
from stage1_extract.nuscenes.records import Camera, SampleRecord, naming_sample
from stage1_extract.nuscenes.transforms import camera_from_lidar
from stage1_extract.preprocessing.sweeps import load_points, read_points

TRUE_COLOUR, PREDICTED_COLOUR = "#35d04f", "#ff8c1a"
LABELS = {TRUE_COLOUR: "true boxes (green)", PREDICTED_COLOUR: "predicted boxes (orange)"}
NEAR_M = 0.3
SHOWN_M = 55.0
SWEEPS = 10
# Corners in units of half the size (length, width, height); the first four are the front face.
CORNERS = np.array(
    [[x, y, z] for x in (1, -1) for y, z in ((1, 1), (1, -1), (-1, -1), (-1, 1))], dtype=np.float64
)
EDGES = [(i, (i + 1) % 4) for i in range(4)]
EDGES += [(4 + i, 4 + (i + 1) % 4) for i in range(4)] + [(i, i + 4) for i in range(4)]
EDGES += [(0, 2), (1, 3)]  # the front face is crossed out


@dataclass(frozen=True, kw_only=True, slots=True)
class PlottedBoxes:
    """Boxes of one kind.

    Args:
        boxes_lidar: (n, 9), see `shared.data.features.Annotations`.
        colour: of their edges.
    """

    boxes_lidar: NDArray[np.float64]
    colour: str


def plot_scene(record: SampleRecord, kinds: Sequence[PlottedBoxes], path: Path) -> None:
    """Write the picture of one frame."""
    matplotlib.use("Agg")
    figure = Figure(figsize=(22, 7.2), layout="constrained", facecolor="white")
    grid = figure.add_gridspec(CAMERA_ROWS, CAMERA_COLUMNS + 1, width_ratios=(1.6, 1.6, 1.6, 1.9))
    draw_sensors(figure, grid, record, kinds)
    counts = ", ".join(f"{len(kind.boxes_lidar)} {LABELS[kind.colour]}" for kind in kinds)
    figure.suptitle(f"{record.scene}  {record.token}   {counts}", fontsize=11)
    figure.savefig(path, dpi=80)


def draw_sensors(
    figure: FigureBase,
    grid: GridSpecBase,
    record: SampleRecord,
    kinds: Sequence[PlottedBoxes],
    changes: SampleChanges | None = None,
) -> None:
    """Draw the six images and the BEV of a frame, as recorded or under a condition.

    Args:
        figure: of matplotlib, or a part of one.
        grid: its grid of `CAMERA_ROWS` by `CAMERA_COLUMNS` + 1 cells.
        record: the frame; calibration as the condition has it.
        kinds: boxes.
        changes: what the condition does to its data.

    Raises:
        DatasetError: naming the sample, if a sensor file is missing or damaged.
    """
    keyframe = cache(lambda: read_points(record.lidar_file))
    cameras = {camera.name: camera for camera in record.cameras}
    for name, axes in camera_axes(figure, grid):
        with naming_sample(record):
            pixels = recorded_pixels(cameras[name])
            if changes is not None:
                pixels = changes.image(pixels, cameras[name], keyframe)
        _plot_camera(axes, pixels[..., ::-1], cameras[name], kinds)
    points = load_points(record, SWEEPS, changes=changes)
    _plot_bev(figure.add_subplot(grid[:, CAMERA_COLUMNS]), points, kinds)


def recorded_pixels(camera: Camera) -> NDArray[np.uint8]:
    """Return the pixels of a camera's JPEG, (H, W, 3) uint8, BGR.

    Raises:
        DatasetError: if it is missing or damaged.
    """
    from stage1_extract.preprocessing.images import read_jpeg  # which needs torch: not at the start

    return read_jpeg(camera.file)


def corners_of(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (n, 8, 3) corners of (n, 9) boxes, metres; the first four are the front face."""
    cosine, sine = np.cos(boxes[:, 6]), np.sin(boxes[:, 6])
    zeros, ones = np.zeros_like(sine), np.ones_like(sine)
    turn = np.stack([cosine, -sine, zeros, sine, cosine, zeros, zeros, zeros, ones], axis=1)
    local = CORNERS * boxes[:, None, 3:6] / 2  # (n, 8, 3)
    turned: NDArray[np.float64] = local @ turn.reshape(-1, 3, 3).transpose(0, 2, 1)
    return turned + boxes[:, None, :3]


def _plot_camera(
    axes: Axes, image: NDArray[np.uint8], camera: Camera, kinds: Sequence[PlottedBoxes]
) -> None:
    height, width = image.shape[:2]
    axes.imshow(image)
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    axes.set_title(camera.name, fontsize=9)
    matrix = camera_from_lidar(camera.rotation, camera.translation_m)
    for kind in kinds:
        corners = corners_of(kind.boxes_lidar) @ matrix[:3, :3].T + matrix[:3, 3]  # (n, 8, 3)
        for box in corners:
            for start, end in EDGES:
                edge = _in_front(box[start], box[end])
                if edge is None:
                    continue
                pixels = edge @ camera.intrinsics.T
                pixels = pixels[:, :2] / pixels[:, 2:]
                if (np.abs(pixels) < 4 * width).all():
                    axes.plot(pixels[:, 0], pixels[:, 1], color=kind.colour, linewidth=1.1)


def _in_front(start: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return the section of an edge in front of the near plane as (2, 3), or None."""
    if start[2] < NEAR_M and end[2] < NEAR_M:
        return None
    if start[2] < NEAR_M or end[2] < NEAR_M:
        share = (NEAR_M - start[2]) / (end[2] - start[2])
        crossing = start + share * (end - start)
        start, end = (crossing, end) if start[2] < NEAR_M else (start, crossing)
    return np.stack([start, end])


def _plot_bev(axes: Axes, points: NDArray[np.float32], kinds: Sequence[PlottedBoxes]) -> None:
    shade = np.clip((points[:, 2] + 3) / 6, 0, 1)
    axes.scatter(points[:, 0], points[:, 1], c=shade, s=0.15, cmap="viridis", linewidths=0)
    for kind in kinds:
        for box, corners in zip(kind.boxes_lidar, corners_of(kind.boxes_lidar), strict=True):
            outline = corners[[0, 3, 7, 4, 0], :2]
            axes.plot(outline[:, 0], outline[:, 1], color=kind.colour, linewidth=1.1)
            nose = corners[[0, 3], :2].mean(axis=0)
            axes.plot([box[0], nose[0]], [box[1], nose[1]], color=kind.colour, linewidth=1.1)
    axes.plot(0, 0, marker="^", color="red", markersize=7)
    axes.set(xlim=(-SHOWN_M, SHOWN_M), ylim=(-SHOWN_M, SHOWN_M), aspect="equal")
    axes.set_facecolor("#101418")
    axes.set_title("bird's eye view, LiDAR frame (x right, y forward, metres)", fontsize=9)
