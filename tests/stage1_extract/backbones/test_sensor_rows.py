"""Which samples give the rows of a shard of a delta, and how their maps are divided into rows."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch

from cache.format.layout import Shard
from shared.config.classes import CAMERAS, LIDAR
from shared.config.preset_catalogue import tiny
from shared.data.features import SourceFile
from stage1_extract.backbones.live import LiveFeatures, RawBatch
from stage1_extract.backbones.sensor_rows import SensorRows
from stage1_extract.nuscenes.nuscenes_tables import read_tables
from stage1_extract.preprocessing.conditioned_input import ConditionedInput
from stage1_extract.preprocessing.delta_frames import DeltaFrames
from stage1_extract.preprocessing.raw_frames import RawFrame, RawFrames

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
# Position of the sample, and its camera: rows of three samples, four rows to a shard.
ROWS = [
    (0, CAMERAS[0]),
    (0, CAMERAS[3]),
    (2, CAMERAS[1]),
    (2, CAMERAS[2]),
    (2, CAMERAS[5]),
    (7, LIDAR),
]


def frames_of(rows: list[tuple[int, str]], slots: int) -> DeltaFrames:
    nothing = cast(ConditionedInput, None)
    return DeltaFrames([], tiny(), None, nothing, rows=rows, slots=slots)


def shard(start: int, rows: int) -> Shard:
    return Shard(index=0, variant=0, start=start, tokens=("row",) * rows)


def test_a_sample_is_loaded_once_for_all_its_rows_of_a_shard() -> None:
    frames = frames_of(ROWS, slots=4)
    rows = SensorRows(cast(LiveFeatures, SimpleNamespace(raw=frames)), frames)
    assert len(frames) == 4  # sample 2 has rows in two shards
    assert rows.places(shard(0, 4)) == range(2)
    assert rows.places(shard(4, 2)) == range(2, 4)


def test_a_sample_is_loaded_once_if_its_rows_are_in_one_shard() -> None:
    assert len(frames_of(ROWS, slots=6)) == 3


def raw_frame(root: Path, place: int, rows: dict[str, str]) -> RawFrame:
    frame = RawFrames(read_tables(root, "v1.0-mini", "mini_train"), tiny()).frame(0, place)
    files = {
        sensor: {"camera" if sensor != LIDAR else "lidar": (SourceFile(name, "0" * 64),)}
        for sensor, name in rows.items()
    }
    return RawFrame(frame=frame, images=None, voxels=None, rows=files)


@pytest.mark.parametrize("device", DEVICES)
def test_views_of_a_padded_batch_are_rows(synthetic_root: Path, device: str) -> None:
    first = raw_frame(synthetic_root, 0, {CAMERAS[4]: "a"})
    second = raw_frame(synthetic_root, 1, {CAMERAS[0]: "b", CAMERAS[5]: "c"})
    batch = RawBatch(rows=(first, second), images=None, voxels=None)
    maps = {"camera/stride16": torch.arange(3 * 6 * 2 * 2 * 5, device=device).view(3, 6, 2, 2, 5)}
    rows, split = SensorRows.split(batch, maps)
    assert SensorRows.count(batch) == 3
    wanted = [maps["camera/stride16"][place] for place in ((0, 4), (1, 0), (1, 5))]
    assert torch.equal(split["camera/stride16"], torch.stack(wanted))
    assert [row.frame.token for row in rows] == [
        f"{first.frame.token}/{CAMERAS[4]}",
        f"{second.frame.token}/{CAMERAS[0]}",
        f"{second.frame.token}/{CAMERAS[5]}",
    ]
    assert [row.sources["camera"][0].name for row in rows] == ["a", "b", "c"]
    assert all(len(row.frame.img_from_lidar) == 0 for row in rows)
    assert all(len(row.frame.annotations.labels) == 0 for row in rows)


@pytest.mark.parametrize("device", DEVICES)
def test_samples_of_a_padded_batch_are_lidar_rows(synthetic_root: Path, device: str) -> None:
    batch = RawBatch(
        rows=tuple(raw_frame(synthetic_root, place, {LIDAR: "a"}) for place in (2, 0)),
        images=None,
        voxels=None,
    )
    maps = {"lidar/stride8": torch.arange(3 * 2 * 4 * 5, device=device).view(3, 2, 4, 5)}
    rows, split = SensorRows.split(batch, maps)
    assert torch.equal(split["lidar/stride8"], maps["lidar/stride8"][:2])
    assert [row.frame.token for row in rows] == [row.frame.token for row in batch.rows]
