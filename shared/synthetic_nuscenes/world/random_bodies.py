"""Random proposals for a body: size, place, heading, speed; `scene_layout` decides what fits."""

import numpy as np

from shared.synthetic_nuscenes.world.ego_motion import EgoMotion
from shared.synthetic_nuscenes.world.object_classes import (
    POLE_COLOUR_RGB,
    POLE_REFLECTIVITY,
    WALL_COLOUR_RGB,
    WALL_REFLECTIVITY,
    ObjectClass,
)
from shared.synthetic_nuscenes.world.solids import Body

SIZE_JITTER = 0.06  # standard deviation, relative; clipped at twice that
PAINT_JITTER = 0.12  # largest change of brightness, relative; channel ratios are preserved
WALL_DISTANCE_M = (32.0, 50.0)
POLE_DISTANCE_M = (6.0, 30.0)


def draw_object(
    random: np.random.Generator,
    ego: EgoMotion,
    duration_s: float,
    kind: ObjectClass,
    stands: bool,
) -> Body:
    """Propose an instance of a class.

    Args:
        random: stream of the scene.
        ego: drive that distances are relative to.
        duration_s: length of the scene; the distance holds at a random time in it.
        kind: class.
        stands: the instance must not move, whatever the class's share of movers.
    """
    moves = random.random() < kind.moving_share and not stands
    speed_mps = float(random.uniform(*kind.speeds_mps)) if moves else 0.0
    yaw_rad = float(random.uniform(-np.pi, np.pi))
    time_s = float(random.uniform(0.0, duration_s))
    x_m, y_m = _near_ego(random, ego, time_s, (kind.nearest_m, kind.farthest_m))
    jitter = np.clip(random.normal(0.0, SIZE_JITTER, 3), -2 * SIZE_JITTER, 2 * SIZE_JITTER)
    width_m, length_m, height_m = (
        round(size * (1 + float(change)), 3)
        for size, change in zip(kind.size_m, jitter, strict=True)
    )
    attribute = ""
    if kind.attributes is not None:
        moving, standing = kind.attributes
        attribute = moving if moves else standing[int(random.integers(len(standing)))]
    return Body(
        kind=kind.name,
        colour_rgb=_paint(random, kind.colour_rgb),
        reflectivity=kind.reflectivity,
        size_m=(width_m, length_m, height_m),
        start_xy_m=(
            x_m - speed_mps * time_s * float(np.cos(yaw_rad)),
            y_m - speed_mps * time_s * float(np.sin(yaw_rad)),
        ),
        yaw_rad=yaw_rad,
        speed_mps=speed_mps,
        attribute=attribute,
    )


def draw_wall(random: np.random.Generator, ego: EgoMotion, duration_s: float) -> Body:
    """Propose a length of wall, far away."""
    time_s = float(random.uniform(0.0, duration_s))
    return Body(
        kind="wall",
        colour_rgb=_paint(random, WALL_COLOUR_RGB),
        reflectivity=WALL_REFLECTIVITY,
        size_m=(0.6, float(random.uniform(8.0, 22.0)), float(random.uniform(2.5, 7.0))),
        start_xy_m=_near_ego(random, ego, time_s, WALL_DISTANCE_M),
        yaw_rad=float(random.uniform(-np.pi, np.pi)),
    )


def draw_pole(random: np.random.Generator, ego: EgoMotion, duration_s: float) -> Body:
    """Propose a lamp post."""
    time_s = float(random.uniform(0.0, duration_s))
    return Body(
        kind="pole",
        colour_rgb=_paint(random, POLE_COLOUR_RGB),
        reflectivity=POLE_REFLECTIVITY,
        size_m=(0.35, 0.35, float(random.uniform(4.0, 8.0))),
        start_xy_m=_near_ego(random, ego, time_s, POLE_DISTANCE_M),
        yaw_rad=float(random.uniform(-np.pi, np.pi)),
    )


def _near_ego(
    random: np.random.Generator, ego: EgoMotion, time_s: float, distances_m: tuple[float, float]
) -> tuple[float, float]:
    distance_m, angle_rad = random.uniform(*distances_m), random.uniform(-np.pi, np.pi)
    x_m, y_m = ego.xy_m(time_s)
    return (
        x_m + float(distance_m * np.cos(angle_rad)),
        y_m + float(distance_m * np.sin(angle_rad)),
    )


def _paint(
    random: np.random.Generator, colour_rgb: tuple[int, int, int]
) -> tuple[float, float, float]:
    brightness = 1.0 + float(random.uniform(-PAINT_JITTER, PAINT_JITTER))
    red, green, blue = (min(channel * brightness, 255.0) for channel in colour_rgb)
    return (red, green, blue)
