"""The picture of an evaluation under conditions: NDS, and AQR's mean weights beside it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stage2_train.evaluation.conditions.judging import ConditionResult
from stage2_train.evaluation.conditions.score_baseline import ScoreBaseline

PICTURE = "conditions.png"
ROW_IN, MARGIN_IN, WIDTH_IN = 0.32, 1.3, 12.0
SENSORS = (("LiDAR", "tab:blue", "o"), ("cameras", "tab:orange", "s"))


def plot_conditions(
    results: Sequence[ConditionResult], baseline: ScoreBaseline | None, out: Path
) -> None:
    """Plot a row per condition: its NDS, the baseline's, and the mean sensor weights.

    Args:
        results: the clean samples first; their values are vertical lines.
        baseline: drawn where it has a number.
        out: folder for the picture.
    """
    from matplotlib.figure import Figure

    has_weights = results[0].sensor_weights is not None
    height = ROW_IN * len(results) + MARGIN_IN
    figure = Figure(figsize=(WIDTH_IN, height), layout="constrained")
    panels = figure.subplots(1, 1 + has_weights, sharey=True, squeeze=False)[0]
    _plot_scores(panels[0], results, baseline)
    if has_weights:
        _plot_weights(panels[1], results)
    panels[0].set_yticks(range(len(results)), [result.condition.name for result in results])
    panels[0].invert_yaxis()  # the clean samples on top
    figure.savefig(out / PICTURE, dpi=90)


def _plot_scores(
    axes: Any, results: Sequence[ConditionResult], baseline: ScoreBaseline | None
) -> None:
    """Plot NDS, and in words how much of the clean samples' is left."""
    scores = [result.summary["nd_score"] for result in results]
    rows = range(len(results))
    axes.barh(rows, scores, color=["0.6", *["tab:green"] * (len(scores) - 1)], height=0.7)
    axes.axvline(scores[0], color="0.4", linewidth=0.8, linestyle="--")
    if baseline is not None:
        values = [baseline.numbers.get(result.condition.key) for result in results]
        known = [(value, row) for row, value in enumerate(values) if value is not None]
        axes.plot(*zip(*known, strict=True), "kD", markersize=5, label=f"baseline {baseline.name}")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=8, frameon=False)
    for row, score in enumerate(scores):
        share = f"  RA {score / scores[0]:.2f}" if row and scores[0] else ""
        axes.text(0, row, f" {score:.3f}{share}", va="center", fontsize=8)
    axes.set(xlabel="NDS", xlim=(0, None))


def _plot_weights(axes: Any, results: Sequence[ConditionResult]) -> None:
    """Plot the mean weight of both sensors; neutral is 0."""
    pairs = [result.sensor_weights or (0.0, 0.0) for result in results]
    for (name, colour, marker), values in zip(SENSORS, zip(*pairs, strict=True), strict=True):
        axes.plot(values, range(len(values)), marker, color=colour, label=name)
        axes.axvline(values[0], color=colour, linewidth=0.8, linestyle="--")
    axes.axvline(0, color="0.8", linewidth=0.8, zorder=0)
    axes.set_xlabel("mean sensor weight: -1 distrust, 0 neutral, 1 trust")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=8, frameon=False)
    axes.grid(axis="y", color="0.93")
