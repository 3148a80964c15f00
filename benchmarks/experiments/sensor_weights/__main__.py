"""AQR learns which sensor to trust where: trained with one blinded on one side of the vehicle.

    python -m benchmarks.experiments.sensor_weights

The cameras are blinded on the left, or the LiDAR on the right. Writes
docs/sensor_weights_learned.png and benchmarks/results/sensor_weights.json; four minutes on one
core. The scenes are made by hand (`blinded_scenes`); detector, losses and AQR are the real ones.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.experiments.sensor_weights.blinded_scenes import BlindedScenes, Sensor
from benchmarks.experiments.sensor_weights.learning import Look, learn
from shared.process.command import command_parser

RESULTS = Path("benchmarks/results/sensor_weights.json")
PICTURE = Path("docs/sensor_weights_learned.png")
WATCHED = range(5)  # seeds watched, with blinded cameras, while scene and settings were chosen
HELD_OUT = range(5, 10)
SEEDS = (*WATCHED, *HELD_OUT)
SENSORS: tuple[Sensor, ...] = ("cameras", "lidar")
PLACES = ("blinded", "healthy")
COLOURS = {"blinded": "tab:purple", "healthy": "tab:green"}
NAMES = {"cameras": "cameras", "lidar": "LiDAR"}
SIDES = {"cameras": ("left", "right"), "lidar": ("right", "left")}  # blinded, healthy

Runs = Mapping[int, Sequence[Look]]


def summary(sensor: Sensor, runs: Runs) -> dict[str, Any]:
    """Return mean weights where the sensor is blinded and where it is not, by seed and step."""
    where = BlindedScenes(0, blinded=sensor).where_blinded
    return {
        f"seed {seed}": {
            place: {
                weight: [round(look.weights[chosen, at].mean().item(), 4) for look in looks]
                for at, weight in enumerate(("lidar", "cameras"))
            }
            for place, chosen in zip(PLACES, (where, ~where), strict=True)
        }
        for seed, looks in runs.items()
    }


def lead(of_place: Mapping[str, Sequence[float]], sensor: Sensor) -> list[float]:
    """Return the healthy sensor's weight minus the blinded sensor's, by step."""
    healthy = "lidar" if sensor == "cameras" else "cameras"
    return [a - b for a, b in zip(of_place[healthy], of_place[sensor], strict=True)]


def plot(runs: Mapping[Sensor, Runs], document: dict[str, Any], path: Path) -> None:
    """Plot, a row per blinded sensor, the final weights and the course of those of all seeds."""
    figure = Figure(figsize=(14, 9.2))
    figure.set_layout_engine("constrained", w_pad=0.12)
    rows = figure.subplots(2, 3, width_ratios=(1, 1, 1.2))
    for (*maps, course), sensor in zip(rows, SENSORS, strict=True):
        end = runs[sensor][0][-1]
        for at, (axes, name) in enumerate(zip(maps, ("LiDAR", "camera"), strict=True)):
            title = f"{name} weight after training, seed 0"
            dots = plot_weights(axes, sensor, end.weights[:, at].numpy(), title)
        figure.colorbar(dots, ax=maps, label="weight: -1 distrust, 0 neutral, 1 trust")
        plot_course(course, sensor, document)
    figure.savefig(path, dpi=80)


def plot_weights(axes: Axes, sensor: Sensor, weights: Any, title: str) -> Any:
    """Plot queries where they are, coloured by weight; return what a colour bar needs."""
    scenes = BlindedScenes(0, blinded=sensor)
    x_min, y_min, _, x_max, y_max, _ = scenes.preset.grid.point_range_m
    shaded = (x_min, 0) if sensor == "cameras" else (0, x_max)
    axes.axvspan(*shaded, color="0.88", zorder=0)
    dots = axes.scatter(
        *scenes.places_m[:, :2].T, c=weights, cmap="RdBu", vmin=-1, vmax=1, s=230, edgecolor="0.3"
    )
    axes.plot(0, 0, marker="^", color="black", markersize=8)
    axes.set(xlim=(x_min, x_max), ylim=(y_min, y_max), aspect="equal", title=title)
    axes.set(xlabel=f"x to the right, m (shaded: {NAMES[sensor]} blinded)", ylabel="y forward, m")
    return dots


def plot_course(axes: Axes, sensor: Sensor, document: dict[str, Any]) -> None:
    """Plot a line for each seed and side, dotted for watched seeds."""
    for seed in SEEDS:
        style = "-" if seed in HELD_OUT else ":"
        for place, side in zip(PLACES, SIDES[sensor], strict=True):
            course = lead(document[sensor][f"seed {seed}"][place], sensor)
            label = f"{side}, {place}" if seed == HELD_OUT[0] else None
            axes.plot(document["steps"], course, style, color=COLOURS[place], label=label)
    axes.plot([], [], ":", color="0.3", label="dotted: watched seeds")
    axes.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    healthy = NAMES["lidar" if sensor == "cameras" else "cameras"]
    axes.set(
        xlabel="training step of AQR",
        ylabel=f"mean weight of {healthy} minus {NAMES[sensor]}",
        title=f"{NAMES[sensor]} blinded: trust in {healthy} over {NAMES[sensor]}",
    )
    axes.legend(frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.14))


def main() -> None:
    """Train, write the JSON and plot."""
    command_parser(__doc__, "python -m benchmarks.experiments.sensor_weights").parse_args()
    runs = {sensor: {seed: learn(seed, sensor) for seed in SEEDS} for sensor in SENSORS}
    document: dict[str, Any] = {"steps": [look.step for look in runs["cameras"][0]]}
    for sensor in SENSORS:
        document[sensor] = summary(sensor, runs[sensor])
        for seed, of_seed in document[sensor].items():
            blinded, healthy = (lead(of_seed[place], sensor)[-1] for place in PLACES)
            name = f"{NAMES[sensor]} blinded, {seed}"
            print(
                f"{name}: lead of the healthy sensor there {blinded:+.2f}, elsewhere {healthy:+.2f}"
            )
    RESULTS.write_text(json.dumps(document, indent=1) + "\n")
    plot(runs, document, PICTURE)


if __name__ == "__main__":
    main()
