"""The pictures of an evaluation: precision and recall, where boxes are missed, the worst samples.

matplotlib is imported only when there is something to plot: detecting and training do not need it.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shared.errors import ConfigError
from stage2_train.evaluation.detection_errors import sample_errors, worst
from stage2_train.evaluation.official_metrics import Judgement

# How many of the samples with the most errors to plot, or which samples.
PlotChoice = int | tuple[str, ...]


def parse_plots(text: str) -> PlotChoice:
    """Read "4" as a number of samples and "token,token" as samples."""
    if text.startswith("-") or not text.replace(",", ""):
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a whole number of at least 0 nor tokens separated by commas"
        )
    return int(text) if text.isdecimal() and len(text) < 9 else tuple(text.split(","))


def require_plottable(plots: PlotChoice, tokens: Sequence[str]) -> None:
    """Check that the samples to plot are among those evaluated.

    Raises:
        ConfigError: if one is not, or matplotlib is missing.
    """
    if plots == 0:
        return
    unknown = [] if isinstance(plots, int) else [token for token in plots if token not in tokens]
    if unknown:
        raise ConfigError(
            f"--plot {unknown[0]}: not among the {len(tokens)} samples evaluated (such as "
            f"{tokens[0]}); give a number of samples, or tokens separated by commas"
        )
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "pictures need matplotlib: pip install 'frozen-cmt[evaluate]', or --plot 0 for none"
        ) from error


def plot_evaluation(judged: Judgement, tables: Any, plots: PlotChoice, folder: Path) -> None:
    """Write precision_recall.png, errors_bev.png and errors_<token>.png for some samples.

    Args:
        judged: the devkit's verdict.
        tables: opened nuScenes tables.
        plots: which samples; 0 for no pictures at all.
        folder: created if missing.
    """
    if plots == 0:
        return
    from stage2_train.plots.plot_curves import plot_curves
    from stage2_train.plots.plot_errors import plot_error_map, plot_sample

    folder.mkdir(parents=True, exist_ok=True)
    plot_curves(judged.curves, judged.summary, folder / "precision_recall.png")
    errors = {
        token: sample_errors(tables, judged.truth, judged.detections, token)
        for token in judged.truth.sample_tokens
    }
    plot_error_map(list(errors.values()), folder / "errors_bev.png")
    chosen = (
        worst(list(errors.values()), plots)
        if isinstance(plots, int)
        else [errors[token] for token in plots]
    )
    for sample in chosen:
        plot_sample(sample, folder / f"errors_{sample.token}.png")
