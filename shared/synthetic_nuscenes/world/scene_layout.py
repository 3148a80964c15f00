"""What stands where in a scene: drawn at random, without overlap at any time."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from shared.errors import ConfigError
from shared.synthetic_nuscenes.world.ego_motion import EgoMotion, draw_ego_motion
from shared.synthetic_nuscenes.world.footprints import Track, ever_overlap
from shared.synthetic_nuscenes.world.object_classes import OBJECT_CLASSES
from shared.synthetic_nuscenes.world.random_bodies import draw_object, draw_pole, draw_wall
from shared.synthetic_nuscenes.world.randomness import stream
from shared.synthetic_nuscenes.world.solids import Body
from shared.synthetic_nuscenes.world.synthetic_config import SyntheticConfig

TRIES = 3000
STANDS_AFTER_TRIES = 300  # an object for which no free path turns up stands instead
CHECK_INTERVAL_S = 0.25
BODY_GAP_M = 0.4
EGO_GAP_M = 1.0
EGO_HALF_M = (3.5, 1.2)  # the ego origin is the rear axle, so half the length covers the bonnet
WALLS = 5
POLES = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneLayout:
    """Everything in a scene.

    Args:
        name: scene name.
        ego: the drive.
        objects: annotated bodies, in the order of their instances.
        clutter: walls and poles; visible to the sensors, never annotated.
    """

    name: str
    ego: EgoMotion
    objects: tuple[Body, ...]
    clutter: tuple[Body, ...]


@lru_cache(maxsize=4)
def lay_out_scene(config: SyntheticConfig, name: str) -> SceneLayout:
    """Draw a scene; cached, because a worker needs it again for every sample.

    Raises:
        ConfigError: if there is no free place for a body.
    """
    ego = draw_ego_motion(config.seed, name)
    random = stream(config.seed, name, "layout")
    duration_s = config.duration_s
    ground = _Ground(f"{name} with seed {config.seed}", ego, duration_s)
    objects = tuple(
        ground.place(partial(draw_object, random, ego, duration_s, kind))
        for kind in OBJECT_CLASSES
        for _ in range(kind.count)
    )
    walls = [ground.place(lambda _: draw_wall(random, ego, duration_s)) for _ in range(WALLS)]
    poles = [ground.place(lambda _: draw_pole(random, ego, duration_s)) for _ in range(POLES)]
    return SceneLayout(name=name, ego=ego, objects=objects, clutter=(*walls, *poles))


class _Ground:
    """Knows which ground is occupied at which time, and places further bodies."""

    def __init__(self, where: str, ego: EgoMotion, duration_s: float) -> None:
        self.where = where
        self.times_s = np.arange(-CHECK_INTERVAL_S, duration_s + CHECK_INTERVAL_S, CHECK_INTERVAL_S)
        self.ego = Track(
            xy_m=np.array([ego.xy_m(time) for time in self.times_s]),
            yaw_rad=np.array([ego.yaw_rad(time) for time in self.times_s]),
            half_m=EGO_HALF_M,
        )
        self.tracks: list[Track] = []

    def place(self, propose: Callable[[bool], Body]) -> Body:
        """Place the first proposal that fits.

        Args:
            propose: draws a body; True requests a body that stands.
        """
        for attempt in range(TRIES):
            body = propose(attempt >= STANDS_AFTER_TRIES)
            track = _track(body, self.times_s)
            if ever_overlap(self.ego, track, margin_m=EGO_GAP_M):
                continue
            if not any(ever_overlap(placed, track, margin_m=BODY_GAP_M) for placed in self.tracks):
                self.tracks.append(track)
                return body
        raise ConfigError(
            f"{self.where}: no free place after {TRIES} tries; use another seed or fewer "
            "samples per scene"
        )


def _track(body: Body, times_s: NDArray[np.float64]) -> Track:
    width_m, length_m, _ = body.size_m
    return Track(
        xy_m=np.array([body.xy_m(float(time)) for time in times_s]),
        yaw_rad=np.full(len(times_s), body.yaw_rad),
        half_m=(length_m / 2, width_m / 2),
    )
