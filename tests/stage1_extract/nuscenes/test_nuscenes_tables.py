"""The nuScenes tables give the frames that mmdet3d's converter would."""

import json
import logging
import math
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.config.classes import CAMERAS, OTHER_CLASS
from shared.config.preset_catalogue import tiny
from shared.errors import DatasetError
from shared.process.memory.without_collection import without_collection
from stage1_extract.nuscenes import nuscenes_tables
from stage1_extract.nuscenes.nuscenes_tables import read_tables
from stage1_extract.nuscenes.records import SampleRecord
from stage1_extract.preprocessing.images import load_images
from tests.stage1_extract.conftest import START_US


@pytest.fixture
def records(made_up_nuscenes: Path) -> list[SampleRecord]:
    return read_tables(made_up_nuscenes, "v1.0-mini", "mini_val")


def test_the_tables_leave_memory_once_they_are_read(
    made_up_nuscenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, open_tables = [], nuscenes_tables._open

    def noting(root: Path, version: str) -> Any:
        tables = open_tables(root, version)
        opened.append(weakref.ref(tables))
        return tables

    monkeypatch.setattr(nuscenes_tables, "_open", noting)
    with without_collection():
        read_tables(made_up_nuscenes, "v1.0-mini", "mini_val")
        assert [reference() for reference in opened] == [None]


def test_a_frame_knows_its_files_times_and_recording(
    records: list[SampleRecord], made_up_nuscenes: Path
) -> None:
    first, second = records
    assert [first.token, second.token] == ["sample-0", "sample-1"]
    assert second.timestamp_us - first.timestamp_us == 500_000
    assert second.scene == "n000-2017-07-14-02-40-00+0000"
    assert second.root == made_up_nuscenes
    assert second.relative(second.lidar_file) == (
        "samples/LIDAR_TOP/n000-2017-07-14-02-40-00+0000__LIDAR_TOP__1500000000500000.pcd.bin"
    )
    assert tuple(camera.name for camera in second.cameras) == CAMERAS
    assert all(file.is_file() for file in second.keyframe_files)


def test_previous_sweeps_come_newest_first_and_cross_the_keyframe(
    records: list[SampleRecord],
) -> None:
    first, second = records
    assert first.sweeps == ()
    assert [second.relative(sweep.file).split("/")[0] for sweep in second.sweeps] == [
        "sweeps",
        "samples",
    ]
    assert [second.lag_s(sweep) for sweep in second.sweeps] == [0.25, 0.5]
    # The ego drives ahead at 4 m/s, so an older sweep was taken 1 m and 2 m behind.
    for sweep, behind_m in zip(second.sweeps, (1, 2), strict=True):
        np.testing.assert_allclose(sweep.rotation, np.eye(3), atol=1e-15)
        np.testing.assert_allclose(sweep.translation_m, [-behind_m, 0, 0], atol=1e-14)


def test_boxes_are_centred_and_turned_into_the_lidar_frame(records: list[SampleRecord]) -> None:
    """Ego at (10, 6) looking along +y, LiDAR 1 m ahead and 2 m up: (10, 26, 1) is (19, 0, -1)."""
    boxes = records[1].annotations.boxes_lidar
    assert boxes.dtype == np.float32
    expected = [
        [19, 0, -1, 4, 2, 1.5, 0, 10, 0],
        [14, -3, -1, 4.5, 1.75, 1.5, 0, 0, 0],
        [-31, 0, -1, 8, 2.5, 3, 0, 0, 0],
    ]
    np.testing.assert_allclose(boxes, expected, atol=1e-6)


def test_labels_are_in_cmts_order_and_counts_are_kept(records: list[SampleRecord]) -> None:
    annotations = records[0].annotations
    assert annotations.labels.tolist() == [0, 0, 1, 8, OTHER_CLASS]
    assert annotations.lidar_points.tolist() == [3, 4, 5, 6, 7]
    assert annotations.radar_points.tolist() == [0, 1, 2, 3, 4]


def test_a_box_seen_once_has_no_velocity(records: list[SampleRecord]) -> None:
    velocities = records[0].annotations.boxes_lidar[:, 7:]
    np.testing.assert_allclose(velocities[0], [10, 0], atol=1e-6)
    assert np.isnan(velocities[3:]).all()


def test_a_frame_without_boxes_has_empty_arrays(made_up_nuscenes: Path) -> None:
    for table in ("sample_annotation", "instance"):
        (made_up_nuscenes / f"v1.0-mini/{table}.json").write_text("[]")
    first, _ = read_tables(made_up_nuscenes, "v1.0-mini", "mini_val")
    assert first.annotations.boxes_lidar.shape == (0, 9)
    assert first.annotations.labels.shape == first.annotations.lidar_points.shape == (0,)


def test_poses_are_those_of_the_keyframe(records: list[SampleRecord]) -> None:
    np.testing.assert_array_equal(records[1].ego_from_lidar[:3, 3], [1, 0, 2])
    np.testing.assert_allclose(
        records[1].global_from_ego,
        [[0, -1, 0, 10], [1, 0, 0, 6], [0, 0, 1, 0], [0, 0, 0, 1]],
        atol=1e-15,
    )


def test_only_existing_samples_and_sweeps_are_kept_if_asked(
    made_up_nuscenes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = read_tables(made_up_nuscenes, "v1.0-mini", "mini_val")
    first.cameras[2].file.unlink()
    second.sweeps[0].file.unlink()
    with caplog.at_level(logging.WARNING):
        (record,) = read_tables(made_up_nuscenes, "v1.0-mini", "mini_val", existing_only=True)
    assert record.token == "sample-1"
    assert [sweep.file for sweep in record.sweeps] == [second.sweeps[1].file]
    assert "kept 1 of 2 samples" in caplog.text
    assert "1 sweeps of the kept samples are missing" in caplog.text


def test_no_existing_sample_is_an_error(made_up_nuscenes: Path) -> None:
    for record in read_tables(made_up_nuscenes, "v1.0-mini", "mini_val"):
        record.lidar_file.unlink()
    with pytest.raises(DatasetError, match=r"none of 2 samples.*__LIDAR_TOP__.*root correct"):
        read_tables(made_up_nuscenes, "v1.0-mini", "mini_val", existing_only=True)


@pytest.mark.parametrize("split", ["minival", "val", "mini_val+train"])
def test_a_split_that_the_version_does_not_have_is_refused(
    made_up_nuscenes: Path, split: str
) -> None:
    with pytest.raises(
        DatasetError, match=r"v1\.0-mini has no split.*--split mini_train or mini_val"
    ):
        read_tables(made_up_nuscenes, "v1.0-mini", split)


def test_an_empty_split_is_refused(made_up_nuscenes: Path) -> None:
    with pytest.raises(DatasetError, match="split mini_train holds no sample"):
        read_tables(made_up_nuscenes, "v1.0-mini", "mini_train")


def test_splits_can_be_joined(made_up_nuscenes: Path) -> None:
    assert len(read_tables(made_up_nuscenes, "v1.0-mini", "mini_train+mini_val")) == 2


def test_a_missing_version_is_named_with_what_is_there(made_up_nuscenes: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"no folder v1\.0-trainval .*found: v1\.0-mini.*--version v1\.0-mini"
    ):
        read_tables(made_up_nuscenes, "v1.0-trainval", "val")
    with pytest.raises(
        DatasetError, match=r"unknown nuScenes version 'mini'; known are v1\.0-mini"
    ):
        read_tables(made_up_nuscenes, "mini", "val")


@pytest.mark.parametrize("file", ["v1.0-mini/ego_pose.json", "maps/blank.png"])
def test_incomplete_metadata_is_an_error_of_ours(made_up_nuscenes: Path, file: str) -> None:
    (made_up_nuscenes / file).unlink()
    with pytest.raises(DatasetError, match=f"cannot open .*{Path(file).name}.*unpack"):
        read_tables(made_up_nuscenes, "v1.0-mini", "mini_val")


def test_a_damaged_table_is_an_error_of_ours(made_up_nuscenes: Path) -> None:
    file = made_up_nuscenes / "v1.0-mini/sample.json"
    file.write_text(file.read_text()[:-9])
    with pytest.raises(DatasetError, match=r"cannot read the tables.*JSONDecodeError"):
        read_tables(made_up_nuscenes, "v1.0-mini", "mini_val")


def test_tables_that_do_not_fit_together_are_an_error_of_ours(made_up_nuscenes: Path) -> None:
    file = made_up_nuscenes / "v1.0-mini/ego_pose.json"
    file.write_text(json.dumps(json.loads(file.read_text())[:2]))
    with pytest.raises(DatasetError, match=r"refer to 'ego-2', which is not in them"):
        read_tables(made_up_nuscenes, "v1.0-mini", "mini_val")


@pytest.mark.parametrize(
    ("table", "token", "column", "value", "message"),
    [
        ("sample_annotation", "box-1-1", "size", [1.75, 0, 1.5], r"box 1 \(car\): .* got 0, 1\.75"),
        ("sample_annotation", "box-1-1", "translation", [math.nan, 0, 0], r"box 1 \(car\): .*nan"),
        ("sample_annotation", "box-1-1", "rotation", [0, 0, 0, 0], "of norm 0, expected a quat"),
        ("ego_pose", "ego-2", "rotation", [1, 1, 1, 1], "of norm 2, expected a quaternion"),
        ("ego_pose", "ego-2", "translation", [math.nan, 0, 0], "within 100 m|ego to global|centre"),
        ("calibrated_sensor", "calibrated-CAM_BACK", "camera_intrinsic", [[0] * 3] * 3, "CAM_BACK"),
        ("sample_data", "LIDAR_TOP-1", "timestamp", 1_500_000_000, "sweep 0 .*looks like seconds"),
        ("sample_data", "LIDAR_TOP-1", "timestamp", START_US + 600_000, "0.1 s after the keyframe"),
        ("sample", "sample-1", "timestamp", 1_500_000_000_500, "looks like milliseconds"),
    ],
)
def test_impossible_numbers_name_the_sample(
    made_up_nuscenes: Path, table: str, token: str, column: str, value: object, message: str
) -> None:
    file = made_up_nuscenes / f"v1.0-mini/{table}.json"
    rows = json.loads(file.read_text())
    (row,) = (row for row in rows if row["token"] == token)
    row[column] = value
    file.write_text(json.dumps(rows))
    with pytest.raises(DatasetError, match=rf"v1\.0-mini, sample sample-[01]: .*({message})"):
        read_tables(made_up_nuscenes, "v1.0-mini", "mini_val")


def test_categories_that_are_not_nuscenes_are_refused(made_up_nuscenes: Path) -> None:
    file = made_up_nuscenes / "v1.0-mini/category.json"
    file.write_text(file.read_text().replace("vehicle.truck", "lorry"))
    rows = made_up_nuscenes / "v1.0-mini/instance.json"
    rows.write_text(rows.read_text().replace("vehicle.truck", "lorry"))
    with pytest.raises(DatasetError, match=r"split mini_val: 2 of 8 boxes .*'lorry' \(2\)"):
        read_tables(made_up_nuscenes, "v1.0-mini", "mini_val")


@pytest.mark.real
def test_real_tables_give_the_five_complete_frames(nuscenes_real: Path) -> None:
    records = read_tables(nuscenes_real, "v1.0-mini", "mini_train+mini_val", existing_only=True)
    assert [len(record.sweeps) for record in records] == [0, 0, 2, 1, 1]
    images, matrices = load_images(records[0], tiny().camera)
    assert all(len(np.unique(image)) > 100 for image in images)
    assert np.isfinite(matrices).all()
