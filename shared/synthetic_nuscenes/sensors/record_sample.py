"""A worker's job: every file of a keyframe, and what the sensors see of each object."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.config.classes import LIDAR
from shared.synthetic_nuscenes.sensors.camera_image import photograph
from shared.synthetic_nuscenes.sensors.lidar_scan import scan
from shared.synthetic_nuscenes.sensors.rig import LIDAR_EGO_POSE, RIG_CAMERAS
from shared.synthetic_nuscenes.sensors.timeline import Reading, scene_readings
from shared.synthetic_nuscenes.world.randomness import stream
from shared.synthetic_nuscenes.world.rotation import Pose, matrix
from shared.synthetic_nuscenes.world.scene_layout import SceneLayout, lay_out_scene
from shared.synthetic_nuscenes.world.solids import Body
from shared.synthetic_nuscenes.world.synthetic_config import (
    IMAGE_HEIGHT_PX,
    IMAGE_WIDTH_PX,
    SyntheticConfig,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sightings:
    """What a keyframe shows of each object, in the order of the scene's objects.

    Args:
        lidar_points: points of the keyframe inside the annotated box.
        visible_share: share of the object's pixels, over all cameras, that nothing hides; 0 if it
            is out of view of all cameras.
    """

    lidar_points: tuple[int, ...]
    visible_share: tuple[float, ...]


def record_sample(out: Path, config: SyntheticConfig, scene: str, sample: int) -> Sightings:
    """Write the images, the points and the sweeps of a keyframe.

    Args:
        out: data root; the folders exist.
        config: what to write.
        scene: scene name.
        sample: index of the keyframe.
    """
    layout = lay_out_scene(config, scene)
    lidar_points: tuple[int, ...] = ()
    whole_px = np.zeros(len(layout.objects), dtype=np.int64)
    visible_px = np.zeros(len(layout.objects), dtype=np.int64)
    cameras = {camera.channel: camera for camera in RIG_CAMERAS}
    for reading in scene_readings(config, scene):
        if reading.sample != sample:
            continue
        random = stream(config.seed, "noise", reading.token)
        path = out / reading.filename
        if reading.channel == LIDAR:
            points = scan(layout, reading.time_s, config.azimuth_steps, random)
            path.write_bytes(points.astype("<f4").tobytes())
            if reading.is_key_frame:
                lidar_points = _count_points(layout, reading, points)
            continue
        picture = photograph(
            layout, cameras[reading.channel], reading.time_s, config.render_stride_px, random
        )
        whole_px += picture.whole_px
        visible_px += picture.visible_px
        _write_jpeg(path, picture.image, config.jpeg_quality)
    share = visible_px / np.maximum(whole_px, 1)
    return Sightings(
        lidar_points=lidar_points, visible_share=tuple(float(value) for value in share)
    )


def _write_jpeg(path: Path, image: NDArray[np.uint8], quality: int) -> None:
    full = Image.fromarray(image).resize(
        (IMAGE_WIDTH_PX, IMAGE_HEIGHT_PX), resample=Image.Resampling.BILINEAR
    )
    full.save(path, format="JPEG", quality=quality)


def _count_points(
    layout: SceneLayout, reading: Reading, points: NDArray[np.float32]
) -> tuple[int, ...]:
    """Count the points in each annotated box, including its faces, as nuscenes-devkit does."""
    pose = layout.ego.pose(reading.time_s).after(LIDAR_EGO_POSE)
    points_m = points[:, :3].astype(np.float64) @ matrix(pose.rotation).T + pose.translation_m
    return tuple(
        _points_in_box(body, body.box_pose(reading.time_s), points_m) for body in layout.objects
    )


def _points_in_box(body: Body, box: Pose, points_m: NDArray[np.float64]) -> int:
    width_m, length_m, height_m = body.size_m
    half_m = np.array([length_m, width_m, height_m]) / 2
    return int((np.abs(box.into_child(points_m)) <= half_m).all(axis=-1).sum())
