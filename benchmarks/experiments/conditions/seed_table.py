"""The scores of all runs as a table: mean and spread over seeds."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from benchmarks.markdown import table

Scores = dict[str, Any]


def scores_of(judged: Path) -> Scores:
    """Return what the table needs of an evaluation's conditions.json."""
    document = json.loads((judged / "conditions.json").read_text())
    rows: Mapping[str, Mapping[str, Any]] = document["conditions"]
    impaired = {name: row["NDS"] for name, row in rows.items() if name != "clean"}
    return {
        "clean NDS": rows["clean"]["NDS"],
        "mean NDS over conditions": fmean(impaired.values()),
        "mRA": document["mRA"],
        "NDS": impaired,
        "weights": {
            name: [row["lidar_weight"], row["cameras_weight"]]
            for name, row in rows.items()
            if "lidar_weight" in row
        },
    }


def seed_tables(runs: Mapping[str, Sequence[Scores]]) -> str:
    """Return tables in Markdown: a column per recipe, mean and standard deviation over seeds."""
    measures = ("mean NDS over conditions", "clean NDS", "mRA")
    first = next(iter(runs.values()))[0]
    rows = [
        (name, *(_spread([run[name] for run in of_recipe]) for of_recipe in runs.values()))
        for name in measures
    ]
    rows += [
        (f"NDS, {name}", *(_spread([run["NDS"][name] for run in own]) for own in runs.values()))
        for name in first["NDS"]
    ]
    with_aqr = {name: own for name, own in runs.items() if own[0]["weights"]}
    weights = [
        (name, *(_weights([run["weights"][name] for run in own]) for own in with_aqr.values()))
        for name in ("clean", *first["NDS"])
    ]
    seeds = max(len(own) for own in runs.values())
    head = (f"mean and standard deviation of {seeds} seeds", *runs)
    return "\n".join(
        [table(head, rows), table(("mean sensor weights, LiDAR / cameras", *with_aqr), weights)]
    )


def _spread(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    spread = f" +- {stdev(known):.4f}" if len(known) > 1 else ""
    return f"{fmean(known):.4f}{spread}"


def _weights(pairs: Sequence[Sequence[float]]) -> str:
    return " / ".join(f"{fmean(values):+.3f}" for values in zip(*pairs, strict=True))
