"""The pictures of an evaluation: precision and recall, where boxes are missed, the worst samples.

matplotlib is imported only when there is something to plot: detecting and training do not need it.
"""

from pathlib import Path
from typing import Any

from stage2_train.evaluation.detection_errors import sample_errors, worst
from stage2_train.evaluation.official_metrics import Judgement
from stage2_train.plots.plot_choice import PlotChoice


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
