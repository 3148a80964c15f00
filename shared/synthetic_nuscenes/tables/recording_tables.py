"""The six nuScenes tables of the recordings: scenes, keyframes, files, poses, instances, boxes."""

from collections.abc import Mapping, Sequence

from shared.config.classes import LIDAR
from shared.synthetic_nuscenes.sensors.record_sample import Sightings
from shared.synthetic_nuscenes.sensors.timeline import (
    Reading,
    sample_timestamp_us,
    sample_token,
    scene_readings,
)
from shared.synthetic_nuscenes.tables.fixed_tables import (
    Row,
    Tables,
    calibration_token,
    pose_columns,
    visibility_token,
)
from shared.synthetic_nuscenes.world.object_classes import OBJECT_CLASSES
from shared.synthetic_nuscenes.world.randomness import token
from shared.synthetic_nuscenes.world.scene_layout import SceneLayout, lay_out_scene
from shared.synthetic_nuscenes.world.synthetic_config import (
    IMAGE_HEIGHT_PX,
    IMAGE_WIDTH_PX,
    SyntheticConfig,
)


def recording_tables(
    config: SyntheticConfig, sightings: Mapping[str, Sequence[Sightings]]
) -> Tables:
    """Build the tables of all scenes.

    Args:
        config: what was recorded.
        sightings: by scene name, an entry per keyframe.
    """
    tables: Tables = {
        "scene": [],
        "sample": [],
        "sample_data": [],
        "ego_pose": [],
        "instance": [],
        "sample_annotation": [],
    }
    for scene in config.scene_names:
        layout = lay_out_scene(config, scene)
        tables["scene"].append(_scene_row(config, scene))
        tables["sample"] += _sample_rows(config, scene)
        readings = scene_readings(config, scene)
        tables["sample_data"] += _sample_data_rows(config, scene, readings)
        tables["ego_pose"] += [
            {
                "token": reading.token,
                "timestamp": reading.timestamp_us,
                **pose_columns(layout.ego.pose(reading.time_s)),
            }
            for reading in readings
        ]
        tables["instance"] += _instance_rows(config, scene, layout)
        tables["sample_annotation"] += _annotation_rows(config, layout, sightings[scene])
    return tables


def _scene_row(config: SyntheticConfig, scene: str) -> Row:
    return {
        "token": token(config.seed, "scene", scene),
        "log_token": token(config.seed, "log", scene),
        "nbr_samples": config.samples_per_scene,
        "first_sample_token": sample_token(config, scene, 0),
        "last_sample_token": sample_token(config, scene, config.samples_per_scene - 1),
        "name": scene,
        "description": "Synthetic: boxes of all ten classes on a parking lot",
    }


def _sample_rows(config: SyntheticConfig, scene: str) -> list[Row]:
    tokens = [sample_token(config, scene, sample) for sample in range(config.samples_per_scene)]
    return [
        {
            "token": own,
            "timestamp": sample_timestamp_us(config, scene, sample),
            "prev": before,
            "next": after,
            "scene_token": token(config.seed, "scene", scene),
        }
        for sample, (own, before, after) in enumerate(_chain(tokens))
    ]


def _sample_data_rows(
    config: SyntheticConfig, scene: str, readings: Sequence[Reading]
) -> list[Row]:
    rows: list[Row] = []
    for channel in dict.fromkeys(reading.channel for reading in readings):
        own = [reading for reading in readings if reading.channel == channel]
        links = _chain([reading.token for reading in own])
        is_lidar = channel == LIDAR
        rows += [
            {
                "token": reading.token,
                "sample_token": sample_token(config, scene, reading.sample),
                "ego_pose_token": reading.token,
                "calibrated_sensor_token": calibration_token(config, scene, channel),
                "timestamp": reading.timestamp_us,
                "fileformat": "pcd" if is_lidar else "jpg",
                "is_key_frame": reading.is_key_frame,
                "height": 0 if is_lidar else IMAGE_HEIGHT_PX,
                "width": 0 if is_lidar else IMAGE_WIDTH_PX,
                "filename": reading.filename,
                "prev": before,
                "next": after,
            }
            for reading, (_, before, after) in zip(own, links, strict=True)
        ]
    return rows


def _instance_rows(config: SyntheticConfig, scene: str, layout: SceneLayout) -> list[Row]:
    categories = {kind.name: kind.category for kind in OBJECT_CLASSES}
    last = config.samples_per_scene - 1
    return [
        {
            "token": token(config.seed, "instance", scene, index),
            "category_token": token(config.seed, "category", categories[body.kind]),
            "nbr_annotations": config.samples_per_scene,
            "first_annotation_token": _annotation_token(config, scene, index, 0),
            "last_annotation_token": _annotation_token(config, scene, index, last),
        }
        for index, body in enumerate(layout.objects)
    ]


def _annotation_rows(
    config: SyntheticConfig, layout: SceneLayout, sightings: Sequence[Sightings]
) -> list[Row]:
    rows: list[Row] = []
    scene = layout.name
    start_us = sample_timestamp_us(config, scene, 0)
    for index, body in enumerate(layout.objects):
        tokens = [_annotation_token(config, scene, index, n) for n in range(len(sightings))]
        attributes = [token(config.seed, "attribute", body.attribute)] if body.attribute else []
        for sample, (own, before, after) in enumerate(_chain(tokens)):
            time_s = (sample_timestamp_us(config, scene, sample) - start_us) / 1e6
            rows.append(
                {
                    "token": own,
                    "sample_token": sample_token(config, scene, sample),
                    "instance_token": token(config.seed, "instance", scene, index),
                    "visibility_token": visibility_token(sightings[sample].visible_share[index]),
                    "attribute_tokens": attributes,
                    **pose_columns(body.box_pose(time_s)),
                    "size": list(body.size_m),
                    "prev": before,
                    "next": after,
                    "num_lidar_pts": sightings[sample].lidar_points[index],
                    "num_radar_pts": 0,
                }
            )
    return rows


def _annotation_token(config: SyntheticConfig, scene: str, index: int, sample: int) -> str:
    return token(config.seed, "sample_annotation", scene, index, sample)


def _chain(tokens: Sequence[str]) -> list[tuple[str, str, str]]:
    """Return each token with its neighbours: (own, previous, next), "" beyond either end."""
    return list(zip(tokens, ["", *tokens[:-1]], [*tokens[1:], ""], strict=True))
