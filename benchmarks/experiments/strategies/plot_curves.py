"""Loss curves of strategies, and how far cached and live curves diverge."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.experiments.strategies.live_recipes import is_live

WINDOW = 10  # steps of the running mean; single steps are pale behind it


def plot_strategies(document: dict[str, Any], file: Path) -> None:
    """Plot the total loss of every strategy in one diagram."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for index, row in enumerate(document["strategies"]):
        loss = np.array(row["loss"])
        window = min(WINDOW, max(len(loss) // 4, 1))
        mean = np.convolve(loss, np.full(window, 1 / window), "valid")
        steps, colour = np.arange(1, len(loss) + 1), f"C{index}"
        axes.plot(steps, loss, color=colour, alpha=0.15, linewidth=0.8)
        style = "--" if is_live(row["strategy"]) else "-"
        axes.plot(steps[window - 1 :], mean, style, color=colour, label=row["strategy"])
    axes.set(xlabel="step", ylabel="total loss", title=document["preset"])
    axes.legend(fontsize=8, ncols=2)
    axes.grid(alpha=0.3)
    figure.savefig(file, dpi=110)


def plot_same_curve(document: dict[str, Any], file: Path) -> None:
    """Plot, for every run, the loss and how far the float16 store's is from float32's."""
    runs = document["runs"]
    figure = Figure(figsize=(4.2 * len(runs), 5.5), layout="constrained")
    grid = figure.subplots(2, len(runs), squeeze=False, sharex=True)
    for column, (name, comparison) in enumerate(runs.items()):
        above, below = grid[:, column]
        exact = np.array(comparison["loss"]["live"])
        steps = np.arange(1, len(exact) + 1)
        for label, key in (("live", "live"), ("float16 store", "store"), ("control", "control")):
            values = np.array(comparison["loss"][key])
            above.plot(steps, values, label=label, linewidth=1)
            if key != "live":
                colour = above.lines[-1].get_color()
                below.semilogy(steps, np.abs(values - exact) / exact, color=colour, label=label)
        above.set(title=name, ylabel="total loss")
        below.set(xlabel="step", ylabel="relative to live float32")
        above.legend(fontsize=8)
        below.grid(alpha=0.3)
    figure.savefig(file, dpi=110)
