"""Bodies in a scene: annotated objects and clutter, and where they are at a given time."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.synthetic_nuscenes.world.rotation import Pose, about_axis

# Annotated boxes are a little larger than the body, as human annotators draw them. This also keeps
# noisy surface points inside the box.
SLACK_M = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class Body:
    """A box on the ground that stands or moves along its heading at constant speed.

    Args:
        kind: detection name, or "wall", "pole" or "ego".
        colour_rgb: mean paint, 0 to 255.
        reflectivity: mean LiDAR intensity, 0 to 255.
        size_m: (width, length, height) of the annotated box.
        start_xy_m: global position of the centre at time 0.
        yaw_rad: global heading.
        speed_mps: 0 for a body that stands.
        attribute: nuScenes attribute name; "" for none.
    """

    kind: str
    colour_rgb: tuple[float, float, float]
    reflectivity: float
    size_m: tuple[float, float, float]
    start_xy_m: tuple[float, float]
    yaw_rad: float
    speed_mps: float = 0.0
    attribute: str = ""

    def xy_m(self, time_s: float) -> tuple[float, float]:
        """Global position of the centre."""
        way_m = self.speed_mps * time_s
        return (
            self.start_xy_m[0] + way_m * float(np.cos(self.yaw_rad)),
            self.start_xy_m[1] + way_m * float(np.sin(self.yaw_rad)),
        )

    def box_pose(self, time_s: float) -> Pose:
        """Frame of the annotated box (x along the length) in the global frame."""
        return Pose(
            translation_m=(*self.xy_m(time_s), self.size_m[2] / 2),
            rotation=about_axis("z", self.yaw_rad),
        )

    def solid(self, time_s: float) -> "Solid":
        """The body itself, which the rays hit: the box less its slack, bottom on the ground."""
        width_m, length_m, height_m = self.size_m
        top_m = height_m - SLACK_M
        return Solid(
            center_m=np.array([*self.xy_m(time_s), top_m / 2]),
            half_m=np.array([length_m / 2 - SLACK_M, width_m / 2 - SLACK_M, top_m / 2]),
            yaw_rad=self.yaw_rad,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Solid:
    """An upright box at a moment.

    Args:
        center_m: (3,) global.
        half_m: (3,) half of length, width, height.
        yaw_rad: global heading of the length.
    """

    center_m: NDArray[np.float64]
    half_m: NDArray[np.float64]
    yaw_rad: float

    @property
    def local_from_global(self) -> NDArray[np.float64]:
        """(3, 3) rotation from global axes to the box's own."""
        cos, sin = np.cos(self.yaw_rad), np.sin(self.yaw_rad)
        return np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])

    @property
    def corners_m(self) -> NDArray[np.float64]:
        """(8, 3) global."""
        signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
        return signs * self.half_m @ self.local_from_global + self.center_m
