"""Whatever the tables say of a frame counts in the identity: one case for every field of a record.

The cases are generated from the record's own fields, so a new field is a failing test until it is
either in the identity or among the exceptions.
"""

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from shared.config.classes import CAMERAS
from shared.config.cut import BACKBONE_CUT
from shared.config.preset import Preset
from shared.config.preset_catalogue import tiny
from shared.data.features import Annotations
from stage1_extract.backbones.frozen import FrozenBackbones
from stage1_extract.extraction.extraction_identity import store_identity
from stage1_extract.nuscenes.records import Camera, SampleRecord, Sweep

ROOT = Path("/data/nuscenes")
# Names of cameras follow from their order, and the recording from the file names.
NOT_COUNTED = {"scene", "cameras.name"}
LIDAR_ONLY = {"lidar_file", "sweeps"}

Change = Callable[[], SampleRecord]


def numbers(*shape: int, dtype: type = np.float64) -> np.ndarray:
    return (np.arange(np.prod(shape)).reshape(shape) + 1).astype(dtype)


def record() -> SampleRecord:
    return SampleRecord(
        root=ROOT,
        token="a" * 32,
        scene="recording",
        timestamp_us=1_533_151_603_547_590,
        lidar_file=ROOT / "samples/LIDAR_TOP/recording__LIDAR_TOP__3.pcd.bin",
        sweeps=tuple(
            Sweep(
                file=ROOT / f"sweeps/LIDAR_TOP/recording__LIDAR_TOP__{number}.pcd.bin",
                timestamp_us=1_533_151_603_000_000 + number,
                rotation=numbers(3, 3) + number,
                translation_m=numbers(3) + number,
            )
            for number in (2, 1)
        ),
        cameras=tuple(
            Camera(
                name=name,
                file=ROOT / f"samples/{name}/recording__{name}__3.jpg",
                intrinsics=numbers(3, 3) + place,
                rotation=numbers(3, 3) + 10 * place,
                translation_m=numbers(3) + place,
            )
            for place, name in enumerate(CAMERAS)
        ),
        ego_from_lidar=numbers(4, 4),
        global_from_ego=numbers(4, 4) + 1,
        annotations=Annotations(
            boxes_lidar=numbers(2, 9, dtype=np.float32),
            labels=numbers(2, dtype=np.int64),
            lidar_points=numbers(2, dtype=np.int64),
            radar_points=numbers(2, dtype=np.int64),
        ),
    )


def below(root: Path, record: SampleRecord) -> SampleRecord:
    """Return the record with every file below another root."""

    def moved(file: Path) -> Path:
        return root / file.relative_to(record.root)

    return replace(
        record,
        root=root,
        lidar_file=moved(record.lidar_file),
        sweeps=tuple(replace(sweep, file=moved(sweep.file)) for sweep in record.sweeps),
        cameras=tuple(replace(camera, file=moved(camera.file)) for camera in record.cameras),
    )


def inputs(changed: SampleRecord, preset: Preset) -> str:
    """Return the part of the identity that a record determines."""
    frozen = SimpleNamespace(
        preset=preset,
        cut=BACKBONE_CUT,
        device=torch.device("cpu"),
        precision="float32",
        digests=lambda: {"pts_": "0" * 64},
    )
    identity = store_identity(
        cast(FrozenBackbones, frozen), [changed], "v1.0-mini", value_format="float16"
    )
    dataset = identity["dataset"]
    return f"{dataset['inputs']} {dataset['tokens']}"


def changed_values(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the smallest changes of every part of a value, each with the field that it changes."""
    if is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            for path, changed in changed_values(getattr(value, field.name)):
                yield f"{field.name}.{path}".rstrip("."), replace(value, **{field.name: changed})
    elif isinstance(value, tuple):
        for place, element in enumerate(value):
            for path, changed in changed_values(element):
                yield path, (*value[:place], changed, *value[place + 1 :])
    elif isinstance(value, np.ndarray):
        for index in np.ndindex(value.shape):
            changed, element = value.copy(), value[index]
            is_whole = np.issubdtype(value.dtype, np.integer)
            changed[index] = element + 1 if is_whole else np.nextafter(element, np.float32(np.inf))
            yield "", changed
    elif isinstance(value, Path):
        yield "", value.with_name(f"x{value.name}")
        yield "", value.with_name("x") / value.name
    elif isinstance(value, int):
        yield "", value + 1
    else:
        assert isinstance(value, str)
        yield "", f"{value[:-1]}x"


CASES = [(field, changed) for field, changed in changed_values(record()) if field != "root"]
FIELDS = sorted({field for field, _ in CASES})


def counted(field: str, preset: Preset) -> bool:
    sensor = field.partition(".")[0]
    is_absent = (preset.lidar is None and sensor in LIDAR_ONLY) or (
        preset.camera is None and sensor == "cameras"
    )
    return field not in NOT_COUNTED and not is_absent


PRESETS = {
    "both sensors": tiny(),
    "no camera": replace(tiny(), camera=None),
    "no LiDAR": replace(tiny(), lidar=None),
}


@pytest.mark.parametrize("sensors", PRESETS)
@pytest.mark.parametrize("field", FIELDS)
def test_every_field_of_a_record_counts_if_its_sensor_is_used(field: str, sensors: str) -> None:
    preset = PRESETS[sensors]
    same = inputs(record(), preset)
    changes = [changed for name, changed in CASES if name == field]
    results = [inputs(changed, preset) for changed in changes]
    if counted(field, preset):
        assert same not in results
        assert len(set(results)) == len(results)  # no two changes look the same either
    else:
        assert set(results) == {same}


def test_the_cases_cover_calibration_poses_sweeps_boxes_and_names() -> None:
    assert {
        "token",
        "timestamp_us",
        "lidar_file",
        "sweeps.file",
        "sweeps.timestamp_us",
        "sweeps.rotation",
        "sweeps.translation_m",
        "cameras.file",
        "cameras.intrinsics",
        "cameras.rotation",
        "cameras.translation_m",
        "ego_from_lidar",
        "global_from_ego",
        "annotations.boxes_lidar",
        "annotations.labels",
        "annotations.lidar_points",
        "annotations.radar_points",
    } == set(FIELDS) - NOT_COUNTED
    assert len(CASES) > 2 * 13 + 6 * 22 + 2 * 16 + 2 * 12  # every number of every array


REARRANGED: dict[str, Change] = {
    "a sweep less": lambda: replace(record(), sweeps=record().sweeps[:1]),
    "sweeps in another order": lambda: replace(record(), sweeps=record().sweeps[::-1]),
    "cameras in another order": lambda: replace(record(), cameras=record().cameras[::-1]),
    "a box less": lambda: replace(
        record(),
        annotations=Annotations(
            boxes_lidar=record().annotations.boxes_lidar[:1],
            labels=record().annotations.labels[:1],
            lidar_points=record().annotations.lidar_points[:1],
            radar_points=record().annotations.radar_points[:1],
        ),
    ),
    "points swapped": lambda: replace(
        record(),
        annotations=replace(
            record().annotations,
            lidar_points=record().annotations.radar_points + 1,
            radar_points=record().annotations.lidar_points,
        ),
    ),
    "matrices swapped": lambda: replace(
        record(),
        ego_from_lidar=record().global_from_ego,
        global_from_ego=record().ego_from_lidar,
    ),
}


@pytest.mark.parametrize("what", REARRANGED)
def test_what_is_rearranged_counts(what: str) -> None:
    assert inputs(REARRANGED[what](), tiny()) != inputs(record(), tiny())


def test_a_moved_root_does_not_count() -> None:
    moved = below(Path("/elsewhere"), record())
    assert inputs(moved, tiny()) == inputs(record(), tiny())
