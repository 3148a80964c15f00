"""Errors from above, in the LiDAR frame: a sample box by box, and all samples by cell."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from stage2_train.evaluation.detection_errors import MATCH_M, MIN_SCORE, SampleErrors

SHOWN_M = 55.0  # as in plot-samples
CELL_M = 5.0
RINGS_M = (20.0, 30.0, 50.0)  # limits of the distance bands and of the official range
GROUND = "#101418"
# Kind -> colour, line width; true boxes are green as in plot-samples, errors stand out.
FOUND_TRUE = ("#35d04f", 1.6)
DETECTED = ("#d7dde3", 0.9)
MISSED = ("#ff3b5c", 1.8)
FALSE = ("#ff8c1a", 1.3)


def plot_sample(errors: SampleErrors, path: Path) -> None:
    """Plot one sample: found, missed and false boxes."""
    figure = Figure(figsize=(9, 9.6), layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    kinds = (
        ("true box, found", errors.true_boxes[errors.is_found], FOUND_TRUE),
        ("its detection", errors.found_boxes[errors.is_true], DETECTED),
        ("false positive", errors.found_boxes[~errors.is_true], FALSE),
        ("true box, missed", errors.true_boxes[~errors.is_found], MISSED),
    )
    for label, boxes, (colour, width) in kinds:
        lines = LineCollection(_lines(boxes), colors=colour, linewidths=width)
        lines.set_label(f"{label}: {len(boxes)}")
        axes.add_collection(lines)
    _frame(axes, errors.ego_xy_m, colour="#8a96a1", halo=GROUND)
    axes.set_facecolor(GROUND)
    axes.set_title(
        f"{errors.scene}  {errors.token}\ndetections of score {MIN_SCORE:g} and more, matched "
        f"within {MATCH_M:g} m of the centre",
        fontsize=10,
    )
    figure.legend(
        loc="outside lower center",
        ncols=len(kinds),
        facecolor=GROUND,
        framealpha=1,
        labelcolor="white",
    )
    figure.savefig(path, dpi=100)


def plot_error_map(samples: Sequence[SampleErrors], path: Path) -> None:
    """Plot three maps over all samples: true boxes, share of them missed, false positives."""
    true = np.concatenate([errors.true_boxes[:, :2] for errors in samples])
    is_missed = np.concatenate([~errors.is_found for errors in samples])
    false = np.concatenate([errors.found_boxes[~errors.is_true, :2] for errors in samples])
    counts, missed, wrong = (_by_cell(xy_m) for xy_m in (true, true[is_missed], false))
    share = np.divide(missed, counts, out=np.full_like(counts, np.nan), where=counts > 0)
    figure = Figure(figsize=(16.5, 5.7), layout="constrained", facecolor="white")
    panels = figure.subplots(1, 3, sharey=True)
    ego_xy_m = np.mean([errors.ego_xy_m for errors in samples], axis=0)
    for axes, values, colours, limit, title in (
        (panels[0], _no_zeros(counts), "viridis", None, f"{len(true)} true boxes"),
        (panels[1], share, "YlOrRd", 1.0, f"share of them missed: {_share(is_missed)}"),
        (panels[2], _no_zeros(wrong), "viridis", None, f"{len(false)} false positives"),
    ):
        image = axes.imshow(
            values.T,
            origin="lower",
            extent=(-SHOWN_M, SHOWN_M, -SHOWN_M, SHOWN_M),
            cmap=colours,
            vmin=0,
            vmax=limit,
        )
        figure.colorbar(image, ax=axes, shrink=0.8, pad=0.02)
        _frame(axes, ego_xy_m, colour="black", halo="white")
        axes.set_facecolor("0.85")
        axes.set_title(title, fontsize=11)
    for axes in panels[1:]:
        axes.set_ylabel("")
    figure.suptitle(
        f"{len(samples)} samples by cells of {CELL_M:g} m; detections of score {MIN_SCORE:g} and "
        f"more, matched within {MATCH_M:g} m; grey: none",
        fontsize=12,
    )
    figure.savefig(path, dpi=90)


def _lines(boxes: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Return outline and heading of (n, 5) boxes; the heading runs from the centre to the front."""
    lines = []
    for x, y, length_m, width_m, yaw in boxes:
        ahead = np.array([np.cos(yaw), np.sin(yaw)]) * length_m / 2
        aside = np.array([-np.sin(yaw), np.cos(yaw)]) * width_m / 2
        centre = np.array([x, y])
        corners = [ahead + aside, ahead - aside, -ahead - aside, -ahead + aside, ahead + aside]
        lines += [centre + np.array(corners), np.array([centre, centre + ahead])]
    return lines


def _frame(axes: Axes, ego_xy_m: NDArray[np.float64], *, colour: str, halo: str) -> None:
    """Set limits and labels; plot the ego vehicle and rings of distance around it."""
    for radius_m in RINGS_M:
        ring = Circle(
            tuple(ego_xy_m), radius_m, fill=False, color=colour, alpha=0.5, linestyle=(0, (4, 4))
        )
        axes.add_patch(ring)
        axes.annotate(
            f"{radius_m:g} m",
            (ego_xy_m[0] + radius_m * np.sqrt(0.5), ego_xy_m[1] - radius_m * np.sqrt(0.5)),
            color=colour,
            fontsize=8,
            ha="center",
            va="center",
            path_effects=[withStroke(linewidth=3, foreground=halo)],
            zorder=5,
        )
    axes.plot(*ego_xy_m, marker="^", color="red", markersize=8)
    axes.set(xlim=(-SHOWN_M, SHOWN_M), ylim=(-SHOWN_M, SHOWN_M), aspect="equal")
    axes.set_xlabel("x, to the right, metres")
    axes.set_ylabel("y, forward, metres")


def _by_cell(xy_m: NDArray[np.float64]) -> NDArray[np.float64]:
    span_m = [[-SHOWN_M, SHOWN_M]] * 2
    cells = round(2 * SHOWN_M / CELL_M)
    counts: NDArray[np.float64]
    counts, _, _ = np.histogram2d(xy_m[:, 0], xy_m[:, 1], bins=cells, range=span_m)
    return counts


def _no_zeros(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(counts > 0, counts, np.nan)


def _share(flags: NDArray[np.bool_]) -> str:
    return f"{flags.sum()} of {len(flags)} ({flags.mean():.0%})" if len(flags) else "none"
