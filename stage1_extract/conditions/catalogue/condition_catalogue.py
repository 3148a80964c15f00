"""Every condition of ours by name, and how a user's own is loaded.

A user's own condition is a Python file with a function that takes nothing and returns a
`Condition`; name it as `path/to/file.py:function`.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from shared.config.classes import CAMERAS
from shared.config.named_config import named_config
from shared.digests import file_digest
from shared.errors import ConfigError
from stage1_extract.conditions.catalogue import camera_conditions, lidar_conditions
from stage1_extract.conditions.catalogue.sensor_conditions import (
    camera_missing,
    camera_stuck,
    cameras_drop,
    cameras_lost,
    lidar_drop,
    lidar_stuck,
    missing_name,
)
from stage1_extract.conditions.condition import Condition

Maker = Callable[[], Condition]

THREE = (1, 2, 3)
TENTHS = range(10, 100, 10)
NUMBERED_CAMERA = re.compile(r"missing-(cam(era)?-?)?\d+")


def _makers(make: Callable[..., Condition], arguments: Iterable[Any]) -> list[Maker]:
    return [partial(make, argument) for argument in arguments]


MAKERS: tuple[Maker, ...] = (
    *_makers(lidar_conditions.beams_even, (16, 8, 4)),
    *_makers(lidar_conditions.beams_elevation, (16, 4, 1)),
    *_makers(lidar_conditions.points_dropped, (70, 80, 90)),
    *_makers(lidar_conditions.field_of_view, (90, 60)),
    lidar_conditions.objects_sample,
    *_makers(lidar_conditions.objects_object, (10, 30, 50, 70)),
    *_makers(lidar_conditions.lidar_shift, THREE),
    *_makers(lidar_conditions.lidar_blur, THREE),
    *_makers(lidar_conditions.lidar_fog, THREE),
    *_makers(lidar_stuck, TENTHS),
    lidar_drop,
    *_makers(camera_conditions.brightness, THREE),
    *_makers(camera_conditions.dark, THREE),
    *_makers(camera_conditions.camera_blur, THREE),
    camera_conditions.occlusion,
    *_makers(camera_conditions.image_haze, THREE),
    *_makers(camera_stuck, TENTHS),
    *_makers(cameras_lost, (20, 40, 60)),
    *_makers(camera_missing, CAMERAS),
    cameras_drop,
    camera_conditions.extrinsics_single,
    camera_conditions.extrinsics_all,
)
CATALOGUE: Mapping[str, Maker] = {make().name: make for make in MAKERS}


def load_condition(ref: str) -> Condition:
    """Return the condition called `ref`, or what `path/to/file.py:function` returns.

    Raises:
        ConfigError: if there is no such condition.
    """
    if NUMBERED_CAMERA.fullmatch(ref):
        raise ConfigError(
            f"condition {ref!r} names a camera by a number, and repositories number cameras "
            f"differently; use its name: {', '.join(map(missing_name, CAMERAS))}"
        )
    condition = named_config(Condition, ref, CATALOGUE)
    if ref in CATALOGUE:
        return condition
    return replace(condition, user_file=file_digest(Path(ref.rpartition(":")[0])))
