"""Pictures of AQR's weights: where the queries are, by class and by distance.

The only module of this package that needs matplotlib.

S samples, Q queries.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from shared.config.classes import CAMERAS, CLASS_NAMES
from shared.config.preset import Preset
from shared.plots.camera_grid import CAMERA_COLUMNS, CAMERA_ROWS, camera_axes
from shared.plots.weight_dots import weight_dots
from stage2_train.evaluation.sensor_weights_table import SampleWeights, SensorWeightsTable

SENSORS = ("LiDAR", "camera")
COLOUR_BAR = "weight: -1 distrust, 0 neutral, 1 trust"
ROW_IN, WIDTH_IN = 3.4, 17.0
DOT, SMALL_DOT = 26, 20  # areas, in points squared
RING_M = 10.0
DISTANCE_STEP_M = 10.0
CONDITION_COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:red")
BOX_SHARE = 0.8  # of a group's width that its boxes take


def plot_weight_maps(table: SensorWeightsTable, sample: int, preset: Preset, path: Path) -> None:
    """Draw the queries of a sample from above and in the six images, a row per condition.

    Args:
        table: of the run.
        sample: which of its samples.
        preset: of the detector.
        path: PNG to write.
    """
    rows = len(table.conditions)
    figure = Figure(figsize=(WIDTH_IN, ROW_IN * rows), layout="constrained")
    parts = figure.subfigures(rows, 1, squeeze=False)[:, 0]
    for part, routing in zip(parts, table.conditions, strict=True):
        part.suptitle(f"sensors: {routing.condition}", x=0.01, ha="left", weight="bold")
        _plot_condition(part, table, routing, sample, preset)
    figure.suptitle(f"{table.tokens[sample]}: AQR's weight of every query, at its reference point")
    figure.savefig(path, dpi=70)


def _plot_condition(
    part: SubFigure, table: SensorWeightsTable, routing: SampleWeights, sample: int, preset: Preset
) -> None:
    ratios = (1.7,) * len(SENSORS) + (1.5,) * CAMERA_COLUMNS
    grid = part.add_gridspec(CAMERA_ROWS, len(ratios), width_ratios=ratios)
    weights = routing.weights[sample]  # (Q, 2)
    panels = []
    for column, sensor in enumerate(SENSORS):
        axes = part.add_subplot(grid[:, column])
        dots = _plot_bev(axes, table.references_m, weights[:, column], preset)
        axes.set_title(f"{sensor} weight, from above (m)", fontsize=9)
        panels.append(axes)
    for name, axes in camera_axes(part, grid, left=len(SENSORS)):
        pixels = table.pixels[sample, CAMERAS.index(name)]  # (Q, 2)
        _plot_image(axes, pixels, weights[:, 1], preset)
        axes.set_title(f"{name}: camera weight", fontsize=8)
        panels.append(axes)
    part.colorbar(dots, ax=panels, label=COLOUR_BAR, pad=0.01)


def _plot_bev(
    axes: Axes, references_m: NDArray[np.float32], weights: NDArray[np.float32], preset: Preset
) -> Any:
    x_min, y_min, _, x_max, y_max, _ = preset.grid.point_range_m
    turn = np.linspace(0, 2 * np.pi, 100)
    for radius_m in np.arange(RING_M, x_max, RING_M):
        ring = radius_m * np.cos(turn), radius_m * np.sin(turn)
        axes.plot(*ring, color="0.85", linewidth=0.6, zorder=0)
    dots = weight_dots(axes, references_m[:, :2], weights, DOT)
    axes.plot(0, 0, marker="^", color="black", markersize=6)
    axes.set(xlim=(x_min, x_max), ylim=(y_min, y_max), aspect="equal")
    axes.tick_params(labelsize=7)
    return dots


def _plot_image(
    axes: Axes, pixels: NDArray[np.float32], weights: NDArray[np.float32], preset: Preset
) -> None:
    assert preset.camera is not None
    width_px, height_px = preset.camera.width_px, preset.camera.height_px
    weight_dots(axes, pixels, weights, SMALL_DOT)
    axes.set(xlim=(0, width_px), ylim=(height_px, 0), aspect="equal", xticks=[], yticks=[])
    axes.set_facecolor("0.95")


def plot_detecting_queries(table: SensorWeightsTable, min_score: float, path: Path) -> None:
    """Draw how the weights of queries that detect something spread, by class and by distance.

    Args:
        table: of the run.
        min_score: of a query that counts as detecting.
        path: PNG to write.
    """
    detecting = [one.scores >= min_score for one in table.conditions]  # of (S, Q)
    pairs = list(zip(table.conditions, detecting, strict=True))
    classes = [one.labels[which] for one, which in pairs]
    steps = [(one.distance_m[which] // DISTANCE_STEP_M).astype(np.int64) for one, which in pairs]
    farthest = max(of_condition.max(initial=0) for of_condition in steps)
    distances = [
        f"{step * DISTANCE_STEP_M:g}-{(step + 1) * DISTANCE_STEP_M:g} m"
        for step in range(farthest + 1)
    ]
    names = [name.replace("_", "\n") for name in CLASS_NAMES]
    figure = Figure(figsize=(WIDTH_IN, 8.0), layout="constrained")
    panels = figure.subplots(2, 2, width_ratios=(len(names), len(distances)), sharey=True)
    for row, sensor in enumerate(SENSORS):
        weights = [one.weights[..., row][which] for one, which in pairs]
        _plot_boxes(panels[row, 0], weights, classes, names)
        _plot_boxes(panels[row, 1], weights, steps, distances)
        panels[row, 0].set_ylabel(f"{sensor} weight")
    panels[0, 0].set_title("by predicted class")
    panels[0, 1].set_title("by distance of the predicted centre from the LiDAR")
    labels = [f"sensors: {one.condition}, {which.sum()} queries" for one, which in pairs]
    handles = [
        Patch(facecolor=colour, alpha=0.6, label=label)
        for colour, label in zip(CONDITION_COLOURS, labels, strict=False)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    figure.suptitle(
        f"weights of queries with a score of {min_score:g} or more in {len(table.tokens)} samples; "
        "boxes: quartiles and median, whiskers: 5 to 95 percent, n: with all sensors"
    )
    figure.savefig(path, dpi=70)


def _plot_boxes(
    axes: Axes,
    weights: Sequence[NDArray[np.float32]],
    groups: Sequence[NDArray[np.int64]],
    names: Sequence[str],
) -> None:
    """Draw a box per group and condition; weights and groups are given by condition."""
    width = BOX_SHARE / len(weights)
    for i, (values, of_group) in enumerate(zip(weights, groups, strict=True)):
        there = [group for group in range(len(names)) if (of_group == group).any()]
        if not there:
            continue
        boxes = axes.boxplot(
            [values[of_group == group] for group in there],
            positions=[group + (i + 0.5) * width - BOX_SHARE / 2 for group in there],
            widths=0.85 * width,
            whis=(5, 95),
            showfliers=False,
            patch_artist=True,
            manage_ticks=False,
            medianprops={"color": "black"},
        )
        for box in boxes["boxes"]:
            box.set(facecolor=CONDITION_COLOURS[i], alpha=0.6)
    counts = [int((groups[0] == group).sum()) for group in range(len(names))]
    labels = [f"{name}\nn {count}" for name, count in zip(names, counts, strict=True)]
    axes.set_xticks(range(len(names)), labels, fontsize=8)
    axes.set(xlim=(-0.5, len(names) - 0.5), ylim=(-1.05, 1.05))
    axes.axhline(0, color="0.6", linewidth=0.8, zorder=0)
