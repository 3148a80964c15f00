"""Precision over recall, one panel per class, from nuscenes-devkit's own curves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

COLUMNS = 5
COLOURS = ("#440154", "#31688e", "#35b779", "#e8a33d")  # near matches dark, far ones bright


def plot_curves(curves: Any, summary: Mapping[str, Any], path: Path) -> None:
    """Plot the curves.

    Args:
        curves: the devkit's `DetectionMetricDataList`.
        summary: of `official_metrics.judge`.
        path: PNG to write.
    """
    aps = summary["label_aps"]
    rows = -(-len(aps) // COLUMNS)
    figure = Figure(figsize=(2.7 * COLUMNS, 2.75 * rows + 1.0), layout="constrained")
    panels = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False)
    colour_of = dict(zip(summary["cfg"]["dist_ths"], COLOURS, strict=True))
    for panel, name in zip(panels.flat, aps, strict=False):
        _plot_class(panel, curves, name, summary, colour_of)
    for panel in panels[-1]:
        panel.set_xlabel("recall")
    for panel in panels[:, 0]:
        panel.set_ylabel("precision")
    figure.suptitle(
        f"precision and recall over {summary['samples']} samples: mAP {summary['mean_ap']:.4f}, "
        f"NDS {summary['nd_score']:.4f} (the grey area earns no AP)",
        fontsize=12,
    )
    figure.legend(
        handles=[Line2D([], [], color=colour) for colour in COLOURS],
        labels=[f"match within {limit_m:g} m" for limit_m in colour_of],
        loc="outside lower center",
        ncols=len(COLOURS),
        frameon=False,
    )
    figure.savefig(path, dpi=100)


def _plot_class(
    panel: Axes,
    curves: Any,
    name: str,
    summary: Mapping[str, Any],
    colour_of: Mapping[float, str],
) -> None:
    count = summary["true_boxes"][name]
    panel.set(xlim=(0, 1), ylim=(0, 1.02), box_aspect=1)
    panel.grid(color="0.92", linewidth=0.8)
    panel.set_axisbelow(True)
    title = f"AP {summary['mean_dist_aps'][name]:.3f}, {count} true boxes" if count else ""
    panel.set_title(f"{name.replace('_', ' ')}\n{title}", fontsize=9)
    if not count:
        panel.text(
            0.5,
            0.5,
            "no true boxes here\n(AP counts as 0)",
            ha="center",
            va="center",
            color="0.5",
            fontsize=9,
        )
        return
    # Officially precision and recall below 0.1 earn nothing.
    low = (summary["cfg"]["min_recall"], summary["cfg"]["min_precision"])
    panel.axvspan(0, low[0], color="0.95", zorder=0)
    panel.axhspan(0, low[1], color="0.95", zorder=0)
    for limit_m, colour in colour_of.items():
        curve = curves[name, limit_m]
        panel.plot(curve.recall, curve.precision, color=colour, linewidth=1.4, clip_on=False)
