"""A sample some of whose sensors deliver an earlier sample's files again."""

from collections.abc import Mapping
from dataclasses import replace

from shared.errors import DatasetError
from stage1_extract.conditions.sample_edits import SampleEdits, StuckAt
from stage1_extract.nuscenes.records import SampleRecord


def stuck_record(
    record: SampleRecord, edits: SampleEdits, records: Mapping[str, SampleRecord]
) -> SampleRecord:
    """Return the record to load files by; without a stuck sensor it is `record` itself.

    A stuck LiDAR has the earlier sample's keyframe file, sweeps and their times, so its points are
    bit for bit those of the earlier sample; a stuck camera has the earlier JPEG. Calibration,
    poses and boxes stay. `timestamp_us` is the earlier LiDAR's, to which the sweeps' lags refer: a
    sample's own time comes from `record`.

    Args:
        record: the sample.
        edits: of the sample.
        records: all samples by token.

    Raises:
        DatasetError: if the earlier sample is not at hand, or of another recording.
    """
    stuck = record
    if isinstance(edits.lidar, StuckAt):
        earlier = _earlier(record, edits.lidar, records)
        stuck = replace(
            stuck,
            lidar_file=earlier.lidar_file,
            sweeps=earlier.sweeps,
            timestamp_us=earlier.timestamp_us,
        )
    cameras = []
    for camera in record.cameras:
        edit = edits.cameras.get(camera.name)
        if isinstance(edit, StuckAt):
            files = {view.name: view.file for view in _earlier(record, edit, records).cameras}
            camera = replace(camera, file=files[camera.name])
        cameras.append(camera)
    return replace(stuck, cameras=tuple(cameras))


def _earlier(
    record: SampleRecord, edit: StuckAt, records: Mapping[str, SampleRecord]
) -> SampleRecord:
    earlier = records.get(edit.token)
    if earlier is None:
        raise DatasetError(
            f"sample {record.token}: a sensor is stuck at sample {edit.token}, which is not among "
            f"the {len(records)} samples read; read the whole split"
        )
    if earlier.scene != record.scene or earlier.timestamp_us >= record.timestamp_us:
        raise DatasetError(
            f"sample {record.token}: a sensor is stuck at sample {edit.token}, which is not an "
            "earlier one of the same recording"
        )
    return earlier
