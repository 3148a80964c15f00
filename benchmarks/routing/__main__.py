"""AQR learns which sensor to trust where: trained with the cameras blinded on the left.

    python -m benchmarks.routing

Writes docs/routing_learns.png and benchmarks/results/routing.json; a minute on one core. The
scenes are made by hand (`blinded_scenes`), the rest is the real thing: detector, losses, AQR.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.routing.blinded_scenes import BlindedScenes
from benchmarks.routing.learning import Look, learn

RESULTS = Path("benchmarks/results/routing.json")
PICTURE = Path("docs/routing_learns.png")
SEEDS = (0, 1, 2, 3, 4)
SIDES = ("left", "right")
COLOURS = {"left": "tab:purple", "right": "tab:green"}
LABELS = {"left": "left, cameras blinded", "right": "right, both healthy"}


def summary(runs: Sequence[Sequence[Look]]) -> dict[str, Any]:
    """Return mean weights on both sides by seed, at the start and at the end."""
    scenes = BlindedScenes(0, blinded=True)
    is_left = scenes.places_m[:, 0] < 0
    document: dict[str, Any] = {}
    for seed, looks in zip(SEEDS, runs, strict=True):
        document[f"seed {seed}"] = {
            side: {
                "steps": [one.step for one in looks],
                "lidar": [one.weights[chosen, 0].mean().item() for one in looks],
                "cameras": [one.weights[chosen, 1].mean().item() for one in looks],
            }
            for side, chosen in zip(SIDES, (is_left, ~is_left), strict=True)
        }
    return document


def draw(runs: Sequence[Sequence[Look]], document: dict[str, Any], path: Path) -> None:
    """Draw where the weights of the first seed ended, and how those of all seeds went."""
    figure = Figure(figsize=(14, 4.6))
    figure.set_layout_engine("constrained", w_pad=0.12)
    lidar, cameras, course = figure.subplots(1, 3, width_ratios=(1, 1, 1.2))
    end = runs[0][-1]
    for column, (axes, name) in enumerate(((lidar, "LiDAR"), (cameras, "camera"))):
        dots = draw_weights(axes, end.weights[:, column].numpy(), f"{name} weight after training")
    figure.colorbar(dots, ax=[lidar, cameras], label="weight: -1 distrust, 0 neutral, 1 trust")
    for seed, of_seed in document.items():
        for side in SIDES:
            one = of_seed[side]
            lead = [a - b for a, b in zip(one["lidar"], one["cameras"], strict=True)]
            label = LABELS[side] if seed == "seed 0" else None
            course.plot(one["steps"], lead, color=COLOURS[side], alpha=0.8, label=label)
    course.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    course.set(
        xlabel="training step of AQR",
        ylabel="LiDAR weight minus camera weight, mean",
        title=f"trust in the LiDAR over the cameras, {len(SEEDS)} seeds",
    )
    course.legend(frameon=False)
    figure.savefig(path, dpi=80)


def draw_weights(axes: Axes, weights: Any, title: str) -> Any:
    """Draw queries where they are, coloured by weight, and return what a colour bar needs."""
    scenes = BlindedScenes(0, blinded=True)
    x_min, y_min, _, x_max, y_max, _ = scenes.preset.grid.point_range_m
    axes.axvspan(x_min, 0, color="0.88", zorder=0)
    dots = axes.scatter(
        *scenes.places_m[:, :2].T, c=weights, cmap="RdBu", vmin=-1, vmax=1, s=230, edgecolor="0.3"
    )
    axes.plot(0, 0, marker="^", color="black", markersize=8)
    axes.set(xlim=(x_min, x_max), ylim=(y_min, y_max), aspect="equal", title=title)
    axes.set(xlabel="x to the right, m (shaded: cameras blinded)", ylabel="y forward, m")
    return dots


def main() -> None:
    """Train, write the JSON and draw."""
    runs = [learn(seed) for seed in SEEDS]
    document = summary(runs)
    RESULTS.write_text(json.dumps(document, indent=1) + "\n")
    draw(runs, document, PICTURE)
    for seed, of_seed in document.items():
        for side in SIDES:
            lidar, cameras = (of_seed[side][one][-1] for one in ("lidar", "cameras"))
            print(f"{seed}  {LABELS[side]:<22} LiDAR {lidar:+.2f}  cameras {cameras:+.2f}")


if __name__ == "__main__":
    main()
