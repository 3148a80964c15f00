"""What is decoded is what is digested: every file of a row, once, in every variant."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import shared.digests
from shared.config.augmentation import VariantDraws, official_augmentation
from shared.config.preset_catalogue import tiny
from shared.data.features import SourceFile
from shared.digests import file_digest, read_digested
from stage1_extract.nuscenes.nuscenes_tables import read_tables
from stage1_extract.nuscenes.records import SampleRecord
from stage1_extract.preprocessing.images import load_images
from stage1_extract.preprocessing.raw_frames import RawFrames
from stage1_extract.preprocessing.source_log import SourceLog
from stage1_extract.preprocessing.sweeps import load_points


@pytest.fixture
def record(made_up_nuscenes: Path) -> SampleRecord:
    """A keyframe with two sweeps."""
    return read_tables(made_up_nuscenes, "v1.0-mini", "mini_val")[1]


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of what is digested from now on, in a process that has digested nothing."""
    sizes: list[int] = []
    real = hashlib.sha256

    def counting(content: bytes = b"") -> object:
        sizes.append(len(content))
        return real(content)

    monkeypatch.setattr(shared.digests, "_remembered", {})
    monkeypatch.setattr(hashlib, "sha256", counting)
    return sizes


def as_on_disk(record: SampleRecord, files: list[Path]) -> tuple[SourceFile, ...]:
    return tuple(
        SourceFile(
            file.relative_to(record.root).as_posix(), hashlib.sha256(file.read_bytes()).hexdigest()
        )
        for file in files
    )


def cameras_of(record: SampleRecord) -> tuple[SourceFile, ...]:
    return as_on_disk(record, [camera.file for camera in record.cameras])


def lidar_of(record: SampleRecord, sweeps: int = 10) -> tuple[SourceFile, ...]:
    files = [record.lidar_file, *(sweep.file for sweep in record.sweeps[:sweeps])]
    return as_on_disk(record, files)


def test_a_row_of_every_variant_names_its_six_images_keyframe_and_sweeps(
    record: SampleRecord,
) -> None:
    draws = VariantDraws(augmentation=official_augmentation(tiny()))
    frames = RawFrames([record], tiny(), draws)
    for variant in range(3):
        expected = {"camera": cameras_of(record), "lidar": lidar_of(record)}
        assert frames[variant, 0].sources == expected
    assert len(expected["camera"]) == 6
    assert len(expected["lidar"]) == 3


def test_sensors_and_sweeps_that_are_not_used_are_not_named(record: SampleRecord) -> None:
    blind, deaf = replace(tiny(), camera=None), replace(tiny(), lidar=None)
    assert RawFrames([record], blind)[0, 0].sources == {"lidar": lidar_of(record)}
    assert RawFrames([record], deaf)[0, 0].sources == {"camera": cameras_of(record)}
    assert tiny().lidar is not None
    newest = replace(blind, lidar=replace(tiny().lidar, sweeps=1))
    assert RawFrames([record], newest)[0, 0].sources == {"lidar": lidar_of(record, 1)}


def test_every_file_is_read_once_and_digesting_changes_no_value(
    record: SampleRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera = tiny().camera
    assert camera is not None
    images, _ = load_images(record, camera)
    points = load_points(record, 10)
    opened: list[Path] = []
    real = Path.open

    def counting(self: Path, *args: object, **kwargs: object) -> object:
        opened.append(self)
        return real(self, *args, **kwargs)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", counting)
    log = SourceLog(record)
    digested = load_images(record, camera, read=log.reader("camera"))[0]
    np.testing.assert_array_equal(digested, images, strict=True)
    np.testing.assert_array_equal(
        load_points(record, 10, read=log.reader("lidar")), points, strict=True
    )
    files = [*(camera.file for camera in record.cameras), record.lidar_file]
    assert opened == [*files, *(sweep.file for sweep in record.sweeps)]


def test_a_file_is_digested_once_per_process(record: SampleRecord, hashed: list[int]) -> None:
    for _ in range(3):
        content, digest = read_digested(record.lidar_file)
        assert file_digest(record.lidar_file) == digest
    assert content == record.lidar_file.read_bytes()
    assert hashed == [len(content)]


def rewritten(file: Path) -> None:
    status, content = file.stat(), file.read_bytes()
    file.write_bytes(content[::-1])
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


def shortened(file: Path) -> None:
    status, content = file.stat(), file.read_bytes()
    file.write_bytes(content[:-20])
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("change", [rewritten, shortened])
def test_a_changed_file_is_digested_again(
    change: Callable[[Path], None], record: SampleRecord
) -> None:
    file = record.lidar_file
    before = file_digest(file)
    change(file)
    assert file_digest(file) == hashlib.sha256(file.read_bytes()).hexdigest() != before
    assert read_digested(file) == (file.read_bytes(), file_digest(file))


def test_the_memory_of_digests_is_bounded(
    record: SampleRecord, hashed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared.digests, "MOST_REMEMBERED", 2)
    for camera in record.cameras:
        read_digested(camera.file)
        assert len(shared.digests._remembered) <= 2
    assert len(hashed) == len(record.cameras)
