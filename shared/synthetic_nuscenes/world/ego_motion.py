"""How the ego car drives: a circular arc at constant speed, gently swaying."""

from dataclasses import dataclass

import numpy as np

from shared.synthetic_nuscenes.world.randomness import stream
from shared.synthetic_nuscenes.world.rotation import Pose, about_axis, multiply

SWAY_RAD = np.radians(0.4)  # pitch and roll, so that code that uses only the yaw fails
SWAY_RATE_RAD_S = 2.1


@dataclass(frozen=True, kw_only=True, slots=True)
class EgoMotion:
    """A drive in the global frame; time 0 is the first keyframe.

    Args:
        start_xy_m: global position at time 0.
        start_yaw_rad: global heading at time 0.
        speed_mps: constant.
        yaw_rate_rad_s: constant, not 0; positive turns left.
    """

    start_xy_m: tuple[float, float]
    start_yaw_rad: float
    speed_mps: float
    yaw_rate_rad_s: float

    def yaw_rad(self, time_s: float) -> float:
        """Global heading."""
        return self.start_yaw_rad + self.yaw_rate_rad_s * time_s

    def xy_m(self, time_s: float) -> tuple[float, float]:
        """Global position."""
        radius_m = self.speed_mps / self.yaw_rate_rad_s
        before, now = self.start_yaw_rad, self.yaw_rad(time_s)
        return (
            self.start_xy_m[0] + float(radius_m * (np.sin(now) - np.sin(before))),
            self.start_xy_m[1] - float(radius_m * (np.cos(now) - np.cos(before))),
        )

    def pose(self, time_s: float) -> Pose:
        """Ego frame in the global frame; its height is 0, as in nuScenes."""
        pitch_rad = SWAY_RAD * np.sin(SWAY_RATE_RAD_S * time_s)
        roll_rad = SWAY_RAD * np.cos(SWAY_RATE_RAD_S * time_s)
        return Pose(
            translation_m=(*self.xy_m(time_s), 0.0),
            rotation=multiply(
                about_axis("z", self.yaw_rad(time_s)),
                about_axis("y", pitch_rad),
                about_axis("x", roll_rad),
            ),
        )


def draw_ego_motion(seed: int, scene: str) -> EgoMotion:
    """Draw the drive of a scene."""
    random = stream(seed, scene, "ego")
    turn = 1.0 if random.random() < 0.5 else -1.0
    return EgoMotion(
        start_xy_m=(float(random.uniform(300, 1500)), float(random.uniform(300, 1500))),
        start_yaw_rad=float(random.uniform(-np.pi, np.pi)),
        speed_mps=float(random.uniform(5.0, 11.0)),
        yaw_rate_rad_s=turn * float(random.uniform(0.01, 0.08)),
    )
