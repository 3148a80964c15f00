"""Whether an extraction meets its goal: the single result that a run is made for."""

from collections.abc import Sequence
from typing import Any

RATE_PER_S, SHARE, RATIO = 100.0, 0.9, 1.1
ON_GPU = f"{RATE_PER_S:g} samples/s, or {SHARE} of the slower of backbones alone and all cores"
ON_CPU = f"at most {RATIO} times what the backbones alone take"

Run = dict[str, Any]


def goal_of(runs: Sequence[Run], cores_per_s: float | None, device: str) -> dict[str, Any] | None:
    """Return goal, limit, measured rate, its share of the limit, and whether the goal is met.

    Args:
        runs: measured extractions; the fastest counts.
        cores_per_s: see `cores_together`; None if it was not measured: then the rate alone can say
            that the goal is met.
        device: "cpu" or "cuda".

    Returns:
        None without an extraction that wrote for a while. `is_met` is None where it is not known.
    """
    steady = [run for run in runs if run.get("steady_per_s")]
    if not steady:
        return None
    best = max(steady, key=lambda run: float(run["steady_per_s"]))
    rate, alone = best["steady_per_s"], 1 / best["backbones_wall_s"]
    named = {key: best[key] for key in ("processes", "workers", "batch_size") if key in best}
    if device == "cpu":
        share, is_met = rate / alone, alone / rate <= RATIO
        result = {"goal": ON_CPU, "limit": "backbones alone", "limit_per_s": alone}
    else:
        limits = {"backbones alone": alone}
        if cores_per_s is not None:
            limits["all cores, loading and encoding"] = cores_per_s
        limit = min(limits, key=lambda name: limits[name])
        share = rate / limits[limit]
        is_met = rate >= RATE_PER_S or share >= SHARE
        if rate < RATE_PER_S and cores_per_s is None:
            is_met = None
        result = {"goal": ON_GPU, "limit": limit, "limit_per_s": limits[limit]}
    return result | {"measured_per_s": rate, "share": share, "is_met": is_met, "run": named}


def goal_in_words(goal: dict[str, Any]) -> str:
    """Return the goal and what came of it as a sentence of Markdown."""
    outcome = {True: "met", False: "missed", None: "not decided"}[goal["is_met"]]
    run = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in goal["run"].items())
    return (
        f"**Goal: {goal['goal']}: {outcome}.** Measured {goal['measured_per_s']:.3g}/s ({run}), "
        f"{goal['share']:.2f} of {goal['limit_per_s']:.3g}/s, the limit by {goal['limit']}."
    )
