"""A LiDAR revolution: rays cast at the bodies and the ground; the nearest hit is recorded."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.synthetic_nuscenes.sensors.ray_casting import cast_at_solid, rotate
from shared.synthetic_nuscenes.sensors.rig import (
    BEAMS,
    LIDAR_EGO_POSE,
    MAX_RANGE_M,
    beam_directions,
)
from shared.synthetic_nuscenes.world.object_classes import EGO_REFLECTIVITY, GROUND_REFLECTIVITY
from shared.synthetic_nuscenes.world.rotation import matrix
from shared.synthetic_nuscenes.world.scene_layout import SceneLayout
from shared.synthetic_nuscenes.world.solids import Solid

RANGE_NOISE_M = 0.015
INTENSITY_NOISE = 4.0
DROPPED_SHARE = 0.02
# Half length, width and height of the car below the sensor. It gives near points, as the real roof
# does, for the "remove close points" step of readers.
EGO_ROOF_HALF_M = (0.85, 0.8, 0.775)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Echoes:
    """The nearest surface along each ray so far: (azimuths, beams) range and reflectivity."""

    range_m: NDArray[np.float32]
    reflectivity: NDArray[np.float32]


def scan(
    layout: SceneLayout, time_s: float, azimuth_steps: int, random: np.random.Generator
) -> NDArray[np.float32]:
    """Measure the scene at a moment (the sensor turns infinitely fast).

    Args:
        layout: scene.
        time_s: since its first keyframe.
        azimuth_steps: firings per revolution.
        random: stream for the noise and the dropped points.

    Returns:
        (P, 5) float32 in the LiDAR frame: x, y, z in metres, intensity 0 to 255, beam 0 to 31.
    """
    pose = layout.ego.pose(time_s).after(LIDAR_EGO_POSE)
    origin_m = np.array(pose.translation_m)
    beams = beam_directions(azimuth_steps).astype(np.float32)  # (3, A, 32)
    directions = rotate(matrix(pose.rotation), beams)
    echoes = _ground_echoes(origin_m, directions)
    for body in (*layout.objects, *layout.clutter):
        solid = body.solid(time_s)
        columns = _columns_facing(pose.into_child(solid.corners_m), azimuth_steps)
        _add_echoes(echoes, solid, body.reflectivity, origin_m, directions, columns)
    roof = Solid(
        center_m=np.array([origin_m[0], origin_m[1], EGO_ROOF_HALF_M[2]]),
        half_m=np.array(EGO_ROOF_HALF_M),
        yaw_rad=layout.ego.yaw_rad(time_s),
    )
    everywhere = np.arange(azimuth_steps)
    _add_echoes(echoes, roof, EGO_REFLECTIVITY, origin_m, directions, everywhere)
    return _points(echoes, beams, random)


def _ground_echoes(origin_m: NDArray[np.float64], directions: NDArray[np.float32]) -> _Echoes:
    with np.errstate(divide="ignore"):
        range_m = np.float32(-origin_m[2]) / directions[2]
    return _Echoes(
        range_m=np.where(directions[2] < 0, range_m, np.float32(np.inf)),
        reflectivity=np.full(range_m.shape, GROUND_REFLECTIVITY, dtype=np.float32),
    )


def _columns_facing(corners_lidar_m: NDArray[np.float64], steps: int) -> NDArray[np.intp]:
    """Return the azimuth steps whose half-plane can meet a box with the sensor outside it."""
    azimuth_rad = np.arctan2(corners_lidar_m[:, 0], corners_lidar_m[:, 1])
    middle_rad = np.arctan2(np.sin(azimuth_rad).sum(), np.cos(azimuth_rad).sum())
    off_rad = (azimuth_rad - middle_rad + np.pi) % (2 * np.pi) - np.pi
    step_rad = 2 * np.pi / steps
    first = int(np.floor((middle_rad + off_rad.min()) / step_rad))
    last = int(np.ceil((middle_rad + off_rad.max()) / step_rad))
    return np.arange(first, min(last, first + steps - 1) + 1) % steps


def _add_echoes(
    echoes: _Echoes,
    solid: Solid,
    reflectivity: float,
    origin_m: NDArray[np.float64],
    directions: NDArray[np.float32],
    columns: NDArray[np.intp],
) -> None:
    hits = cast_at_solid(solid, origin_m, directions[:, columns])
    nearer = hits.distance < echoes.range_m[columns]
    echoes.range_m[columns] = np.where(nearer, hits.distance, echoes.range_m[columns])
    echoes.reflectivity[columns] = np.where(nearer, reflectivity, echoes.reflectivity[columns])


def _points(
    echoes: _Echoes, beams: NDArray[np.float32], random: np.random.Generator
) -> NDArray[np.float32]:
    shape = echoes.range_m.shape
    noise_m = random.normal(0.0, RANGE_NOISE_M, shape)
    intensity = echoes.reflectivity + random.normal(0.0, INTENSITY_NOISE, shape)
    returned = (echoes.range_m < MAX_RANGE_M) & (random.random(shape) >= DROPPED_SHARE)
    range_m = echoes.range_m[returned] + noise_m[returned]
    points = np.empty((len(range_m), 5), dtype=np.float32)
    points[:, :3] = (beams[:, returned] * range_m).T
    points[:, 3] = np.clip(np.rint(intensity[returned]), 0, 255)
    points[:, 4] = np.broadcast_to(np.arange(BEAMS), shape)[returned]
    return points
