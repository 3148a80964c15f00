"""The sensor rig: where each sensor is mounted on the car, what it sees, and when it fires.

Entered by hand, to centimetres and half degrees, after the published nuScenes rig. Frames: ego x
forward, y left, z up, origin on the ground; camera x right, y down, z forward; LiDAR x right,
y forward, z up. The small tilts make code that ignores them fail.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.synthetic_nuscenes.world.rotation import Pose, about_axis, multiply

BEAMS = 32
LOWEST_BEAM_DEG = -30.67  # Velodyne HDL-32E
HIGHEST_BEAM_DEG = 10.67
MAX_RANGE_M = 70.0

FORWARD_CAMERA = (0.5, -0.5, 0.5, -0.5)  # rotation, ego from a camera that looks along ego x


@dataclass(frozen=True, kw_only=True, slots=True)
class RigCamera:
    """A camera of the rig.

    Args:
        channel: nuScenes name.
        ego_pose: camera frame in the ego frame.
        focal_px: fx = fy at 1600 x 900.
        center_px: (cx, cy) at 1600 x 900.
        delay_s: time of the exposure relative to the LiDAR's keyframe; negative is earlier.
    """

    channel: str
    ego_pose: Pose
    focal_px: float
    center_px: tuple[float, float]
    delay_s: float

    @property
    def intrinsic(self) -> list[list[float]]:
        """(3, 3) camera matrix for the 1600 x 900 image."""
        cx, cy = self.center_px
        return [[self.focal_px, 0.0, cx], [0.0, self.focal_px, cy], [0.0, 0.0, 1.0]]


def _camera(
    channel: str,
    *,
    position_m: tuple[float, float, float],
    yaw_deg: float,
    tilt_deg: float,
    delay_s: float,
    focal_px: float = 1266.0,
    center_px: tuple[float, float] = (816.0, 491.0),
) -> RigCamera:
    yaw = about_axis("z", np.radians(yaw_deg))
    tilt = about_axis("x", np.radians(tilt_deg))
    return RigCamera(
        channel=channel,
        ego_pose=Pose(translation_m=position_m, rotation=multiply(yaw, FORWARD_CAMERA, tilt)),
        focal_px=focal_px,
        center_px=center_px,
        delay_s=delay_s,
    )


RIG_CAMERAS = (
    _camera("CAM_FRONT", position_m=(1.70, 0.02, 1.51), yaw_deg=0.0, tilt_deg=0.3, delay_s=-0.035),
    _camera(
        "CAM_FRONT_RIGHT",
        position_m=(1.55, -0.49, 1.50),
        yaw_deg=-55.0,
        tilt_deg=0.5,
        delay_s=-0.027,
    ),
    _camera(
        "CAM_FRONT_LEFT",
        position_m=(1.52, 0.49, 1.51),
        yaw_deg=55.0,
        tilt_deg=-0.4,
        delay_s=-0.043,
    ),
    _camera(
        "CAM_BACK",
        position_m=(0.03, 0.0, 1.57),
        yaw_deg=180.0,
        tilt_deg=0.5,
        delay_s=-0.010,
        focal_px=809.0,
        center_px=(829.0, 481.0),
    ),
    _camera(
        "CAM_BACK_LEFT", position_m=(1.04, 0.48, 1.56), yaw_deg=110.0, tilt_deg=0.2, delay_s=-0.001
    ),
    _camera(
        "CAM_BACK_RIGHT",
        position_m=(1.01, -0.48, 1.56),
        yaw_deg=-110.0,
        tilt_deg=-0.3,
        delay_s=-0.019,
    ),
)

LIDAR_EGO_POSE = Pose(
    translation_m=(0.94, 0.0, 1.84),
    rotation=multiply(about_axis("z", np.radians(-90.0)), about_axis("x", np.radians(0.5))),
)


def beam_directions(azimuth_steps: int) -> NDArray[np.float64]:
    """Return the unit directions of a revolution in the LiDAR frame.

    Args:
        azimuth_steps: firings per revolution.

    Returns:
        (3, azimuth_steps, 32) float64; beam 0 points lowest, azimuth turns clockwise from y.
    """
    elevation_rad = np.radians(np.linspace(LOWEST_BEAM_DEG, HIGHEST_BEAM_DEG, BEAMS))
    azimuth_rad = np.arange(azimuth_steps)[:, None] * (2 * np.pi / azimuth_steps)
    flat = np.cos(elevation_rad)
    up = np.broadcast_to(np.sin(elevation_rad), (azimuth_steps, BEAMS))
    return np.stack([np.sin(azimuth_rad) * flat, np.cos(azimuth_rad) * flat, up])
