"""Records come in the order of time, whatever order they are read in, and each of them once."""

from dataclasses import replace
from pathlib import Path

import pytest

from shared.errors import DatasetError
from stage1_extract.nuscenes.nuscenes_tables import read_tables
from stage1_extract.nuscenes.records import SampleRecord, arrange


@pytest.fixture
def record(made_up_nuscenes: Path) -> SampleRecord:
    return read_tables(made_up_nuscenes, "v1.0-mini", "mini_val")[0]


def arranged(record: SampleRecord, *keys: tuple[str, int]) -> list[str]:
    records = [replace(record, token=token, timestamp_us=time_us) for token, time_us in keys]
    return [own.token for own in arrange(records, existing_only=False, source="here")]


def test_records_are_ordered_by_time_and_then_by_token(record: SampleRecord) -> None:
    assert arranged(record, ("a", 3), ("b", 1), ("c", 2)) == ["b", "c", "a"]
    assert arranged(record, ("c", 2), ("a", 2), ("b", 1)) == ["b", "a", "c"]


def test_a_token_that_occurs_twice_is_refused_and_named(record: SampleRecord) -> None:
    with pytest.raises(DatasetError, match=r"here: 1 sample tokens occur more than once.* is b"):
        arranged(record, ("a", 3), ("b", 1), ("b", 2))


def test_no_record_at_all_is_refused() -> None:
    with pytest.raises(DatasetError, match="here holds no samples"):
        arrange([], existing_only=True, source="here")


@pytest.mark.parametrize("place", range(7))
def test_a_sample_that_lacks_any_file_of_its_keyframe_is_left_out_if_asked(
    record: SampleRecord, place: int, caplog: pytest.LogCaptureFixture
) -> None:
    record.keyframe_files[place].unlink()
    whole = replace(record, token="whole", timestamp_us=1)
    # A record whose files are all there: those of a camera or the LiDAR may stand in for any.
    present = next(file for file in record.keyframe_files if file.is_file())
    whole = replace(
        whole,
        lidar_file=present,
        cameras=tuple(replace(camera, file=present) for camera in whole.cameras),
    )
    kept = arrange([record, whole], existing_only=True, source="here")
    assert [own.token for own in kept] == ["whole"]
    assert f"the first is {record.keyframe_files[place]}" in caplog.text
    assert len(arrange([record, whole], existing_only=False, source="here")) == 2


def test_sweeps_that_are_not_there_are_left_out_if_asked(
    made_up_nuscenes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record = read_tables(made_up_nuscenes, "v1.0-mini", "mini_val")[1]
    newest, oldest = record.sweeps
    newest.file.unlink()
    (kept,) = arrange([record], existing_only=True, source="here")
    assert kept.sweeps == (oldest,)
    assert "1 sweeps of the kept samples are missing" in caplog.text
