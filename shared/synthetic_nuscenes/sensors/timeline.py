"""What the rig records in a scene: a `Reading` per file, with its time, name and token."""

from dataclasses import dataclass

from shared.config.classes import LIDAR
from shared.synthetic_nuscenes.sensors.rig import RIG_CAMERAS
from shared.synthetic_nuscenes.world.randomness import token
from shared.synthetic_nuscenes.world.synthetic_config import KEYFRAME_RATE_HZ, SyntheticConfig

FIRST_DAY_US = 1_577_880_000_000_000  # 2020-01-01 12:00 UTC; scene n is recorded n days later
DAY_US = 86_400_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """A file of a sensor: a row of sample_data.

    Args:
        channel: sensor name.
        sample: index of the keyframe it belongs to; a sweep belongs to the next keyframe.
        is_key_frame: whether it is the sensor's reading of that keyframe.
        time_s: since the first keyframe of the scene.
        timestamp_us: absolute.
        filename: relative to the data root.
        token: of the sample_data row and of its ego pose.
    """

    channel: str
    sample: int
    is_key_frame: bool
    time_s: float
    timestamp_us: int
    filename: str
    token: str


def scene_readings(config: SyntheticConfig, scene: str) -> tuple[Reading, ...]:
    """Return the readings of a scene, sensor by sensor, each in order of time."""
    per_keyframe = config.sweeps_per_keyframe
    # The log starts with the first keyframe, so nothing precedes it, as in the real set.
    revolutions = range((config.samples_per_scene - 1) * per_keyframe + 1)
    lidar = [
        _reading(
            config,
            scene,
            LIDAR,
            sample=-(-revolution // per_keyframe),
            is_key_frame=revolution % per_keyframe == 0,
            time_us=revolution * 1_000_000 // config.sweep_rate_hz,
        )
        for revolution in revolutions
    ]
    cameras = [
        _reading(
            config,
            scene,
            camera.channel,
            sample=sample,
            is_key_frame=True,
            time_us=sample * 1_000_000 // KEYFRAME_RATE_HZ + round(camera.delay_s * 1e6),
        )
        for camera in RIG_CAMERAS
        for sample in range(config.samples_per_scene)
    ]
    return (*lidar, *cameras)


def sample_token(config: SyntheticConfig, scene: str, sample: int) -> str:
    """Return the token of a keyframe."""
    return token(config.seed, "sample", scene, sample)


def sample_timestamp_us(config: SyntheticConfig, scene: str, sample: int) -> int:
    """Return the time of a keyframe, which is that of its LiDAR reading."""
    return _scene_start_us(config, scene) + sample * 1_000_000 // KEYFRAME_RATE_HZ


def log_name(config: SyntheticConfig, scene: str) -> str:
    """Return the name of a scene's log, with which file names begin."""
    return f"n000-2020-01-{config.scene_names.index(scene) + 1:02d}-12-00-00+0000"


def _scene_start_us(config: SyntheticConfig, scene: str) -> int:
    return FIRST_DAY_US + config.scene_names.index(scene) * DAY_US


def _reading(
    config: SyntheticConfig,
    scene: str,
    channel: str,
    *,
    sample: int,
    is_key_frame: bool,
    time_us: int,
) -> Reading:
    timestamp_us = _scene_start_us(config, scene) + time_us
    folder = "samples" if is_key_frame else "sweeps"
    ending = "pcd.bin" if channel == LIDAR else "jpg"
    name = f"{log_name(config, scene)}__{channel}__{timestamp_us}.{ending}"
    return Reading(
        channel=channel,
        sample=sample,
        is_key_frame=is_key_frame,
        time_s=time_us / 1e6,
        timestamp_us=timestamp_us,
        filename=f"{folder}/{channel}/{name}",
        token=token(config.seed, "sample_data", scene, channel, timestamp_us),
    )
