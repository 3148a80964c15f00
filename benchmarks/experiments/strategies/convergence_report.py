"""Write the results of `convergence` as a section of docs/strategies.md."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.experiments.strategies.live_recipes import LIVE
from benchmarks.markdown import table

Run = dict[str, Any]
LEAST = 0.01  # mAP that a recipe must have moved, for its equality to prove something
TAIL = 0.1  # share of the steps, at the end, whose mean loss is reported


def convergence_section(document: dict[str, Any], picture: Path) -> str:
    """Plot the picture and return the section.

    Args:
        document: as the benchmark writes it.
        picture: file to write, in the folder of the page.
    """
    recipes = [run["strategy"] for run in document["runs"] if not _is_live(run)]
    recipes = list(dict.fromkeys(recipes))
    _plot(document, recipes, picture)
    heads = (
        *("recipe", "steps", "mAP from the store, by seed", "mean", "live, by seed"),
        *("live minus store, same seed", "range over seeds", "NDS from the store, by seed", "live"),
        *("last loss, store", "live"),
    )
    return "\n".join(
        (
            f"## To convergence, from {document['started_from']}\n",
            "Written by `python -m benchmarks.experiments.strategies.convergence`: preset "
            f"`{document['preset']}`, {document['samples']} synthetic samples in "
            f"{document['variants']} variants, batches of {document['batch_size']}; "
            f"{document['held_out_samples']} samples of held-out scenes, scored by "
            f"nuscenes-devkit. {_starts(document)} With the same seed, a cached and a live run "
            "share samples, variants, absent sensors, noise and starting weights; their features "
            "differ only by the rounding to float16.\n",
            table(heads, [_cells(document["runs"], recipe) for recipe in recipes]),
            f"\n{what_it_says(document)}\n",
            f"![loss and mAP]({picture.name})\n",
        )
    )


def _starts(document: dict[str, Any]) -> str:
    heads = {"Untrained": document["untrained"], "The start of all": document["start"]}
    return " ".join(
        f"{words}: mAP {scores['mAP']:.4f}, NDS {scores['NDS']:.4f}."
        for words, scores in heads.items()
        if scores
    )


def what_it_says(document: dict[str, Any]) -> str:
    """Return which recipes have left their start: only there can two ways of training differ."""
    start = (document["start"] or document["untrained"])["mAP"]
    scores: dict[str, list[float]] = {}
    for run in document["runs"]:
        if not _is_live(run):
            scores.setdefault(run["strategy"], []).append(run["mAP"])
    gaps = {
        recipe: (fmean(own) - start, max(own) - min(own))
        for recipe, own in scores.items()
        if len(own) > 1
    }
    moved = {recipe: gap for recipe, gap in gaps.items() if abs(gap[0]) > max(gap[1], LEAST)}
    stayed = [recipe for recipe in scores if recipe not in moved]
    sentences = [
        f"{recipe} ends {gap:+.4f} from its start, beyond the range of its seeds ({spread:.4f})."
        for recipe, (gap, spread) in moved.items()
    ]
    if stayed:
        sentences.append(
            f"**{', '.join(stayed)}: no further from the start than seeds differ, or {LEAST}. "
            "There was nothing to learn that cached and live training could learn differently, "
            "so that their equality proves little.**"
        )
    return " ".join(sentences)


def _is_live(run: Run) -> bool:
    return bool(run["strategy"].startswith(LIVE))


def _of(runs: Sequence[Run], strategy: str) -> dict[int, Run]:
    """Return the runs of one strategy by seed."""
    return {run["seed"]: run for run in runs if run["strategy"] == strategy}


def _cells(runs: Sequence[Run], recipe: str) -> list[str]:
    cached, live = _of(runs, recipe), _of(runs, LIVE + recipe)
    scores = [run["mAP"] for run in cached.values()]
    return [
        recipe,
        str(next(iter(cached.values()))["steps"]),
        _listed(scores),
        f"{fmean(scores):.4f}",
        _listed([run["mAP"] for run in live.values()]),
        _listed([run["mAP"] - cached[seed]["mAP"] for seed, run in live.items()], "+.4f"),
        f"{max(scores) - min(scores):.4f}",
        _listed([run["NDS"] for run in cached.values()]),
        _listed([run["NDS"] for run in live.values()]),
        _listed([last_loss(run) for run in cached.values()], ".2f"),
        _listed([last_loss(run) for run in live.values()], ".2f"),
    ]


def last_loss(run: Run) -> float:
    """Return the mean loss of the last steps."""
    return fmean(run["loss"][-max(round(TAIL * len(run["loss"])), 1) :])


def _listed(values: Sequence[float], form: str = ".4f") -> str:
    return ", ".join(format(value, form) for value in values)


def _plot(document: dict[str, Any], recipes: Sequence[str], file: Path) -> None:
    """Plot the smoothed losses of every recipe and, below, the mAP of every run."""
    runs = document["runs"]
    figure = Figure(figsize=(3.4 * len(recipes), 5.5), layout="constrained")
    grid = figure.subplots(2, len(recipes), squeeze=False, sharey="row")
    for column, recipe in enumerate(recipes):
        above, below = grid[:, column]
        for strategy, colour in ((recipe, "C0"), (LIVE + recipe, "C1")):
            of_strategy = _of(runs, strategy)
            for seed, run in of_strategy.items():
                loss = np.array(run["loss"])
                window = max(len(loss) // 20, 1)
                mean = np.convolve(loss, np.full(window, 1 / window), "valid")
                steps = np.arange(window, len(loss) + 1)
                above.plot(steps, mean, color=colour, linewidth=1, alpha=1.0 if seed == 0 else 0.4)
            where = "live" if strategy.startswith(LIVE) else "store"
            scores = [run["mAP"] for run in of_strategy.values()]
            below.plot(list(of_strategy), scores, "o", color=colour, label=where)
        start = document["start"] or document["untrained"]
        below.axhline(start["mAP"], color="0.5", linestyle=":", label="start")
        above.set(title=recipe, xlabel="step")
        below.set(xlabel="seed", xticks=range(1 + max(run["seed"] for run in runs)))
    grid[0, 0].set(ylabel="total loss, smoothed")
    highest = max(run["mAP"] for run in runs)
    grid[1, 0].set(ylabel="mAP, held out", ylim=(0, 1.2 * highest or 1))
    grid[1, 0].legend(fontsize=8)
    figure.savefig(file, dpi=110)
