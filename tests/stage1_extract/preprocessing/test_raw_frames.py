"""Raw frames: which settings hold in which variant, and which files are read ahead."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from shared.config.augmentation import Augmentation, VariantDraws
from shared.config.preset_catalogue import tiny
from stage1_extract.nuscenes.nuscenes_tables import read_tables
from stage1_extract.preprocessing.raw_frames import RawFrames
from stage1_extract.preprocessing.source_log import begin_reading

LIMIT, TRAINING_LIMIT = 700, 500  # both are below what a synthetic frame fills


def test_an_augmented_variant_has_the_training_limit_of_voxels(synthetic_root: Path) -> None:
    records = read_tables(synthetic_root, "v1.0-mini", "mini_train")
    preset = tiny()
    assert preset.lidar is not None
    limited = replace(preset, lidar=replace(preset.lidar, max_voxels=LIMIT))
    draws = VariantDraws(augmentation=Augmentation(max_voxels=TRAINING_LIMIT))
    frames = RawFrames(records[:1], limited, draws)

    counts = [len(voxels.means) for n in (0, 1) if (voxels := frames[n, 0].voxels) is not None]

    assert counts == [LIMIT, TRAINING_LIMIT]


def test_the_training_limit_does_not_raise_the_preset_s(synthetic_root: Path) -> None:
    records = read_tables(synthetic_root, "v1.0-mini", "mini_train")
    preset = tiny()
    assert preset.lidar is not None
    limited = replace(preset, lidar=replace(preset.lidar, max_voxels=LIMIT))
    frames = RawFrames(records[:1], limited, VariantDraws(augmentation=Augmentation()))

    voxels = frames[1, 0].voxels

    assert voxels is not None
    assert len(voxels.means) == LIMIT


@pytest.mark.parametrize("absent", ["", "camera", "lidar"])
@pytest.mark.parametrize("sweeps", [0, 2, 10])
def test_the_files_that_will_be_loaded_are_read_ahead(
    synthetic_root: Path, monkeypatch: pytest.MonkeyPatch, absent: str, sweeps: int
) -> None:
    records = read_tables(synthetic_root, "v1.0-mini", "mini_train")
    preset = tiny()
    assert preset.lidar is not None
    preset = replace(preset, lidar=replace(preset.lidar, sweeps=sweeps))
    frames = RawFrames(records, replace(preset, **{absent: None}) if absent else preset)
    ahead = list[str]()

    def noticed(descriptor: int, start: int, length: int, advice: int) -> None:
        assert (start, length, advice) == (0, 0, os.POSIX_FADV_WILLNEED)
        ahead.append(records[0].relative(Path(f"/proc/self/fd/{descriptor}").readlink()))

    monkeypatch.setattr(os, "posix_fadvise", noticed)
    for index in (0, 1):
        ahead.clear()
        frames.begin_reading((0, index))
        read = frames[0, index].sources.values()
        assert sorted(ahead) == sorted(file.name for files in read for file in files)
        assert ahead


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_files_that_are_not_there_are_no_error_before_they_are_loaded(tmp_path: Path) -> None:
    missing, there = tmp_path / "missing", tmp_path / "there"
    there.write_bytes(b"content")
    before = open_files()

    begin_reading([missing, tmp_path, there])

    assert open_files() == before
