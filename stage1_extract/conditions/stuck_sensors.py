"""Sensors that deliver the previous sample again: which, and the record to load files by."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from shared.config.classes import CAMERAS, LIDAR
from shared.errors import DatasetError
from stage1_extract.conditions.condition import Condition
from stage1_extract.conditions.sample_edits import Edit, SampleEdits, StuckAt
from stage1_extract.nuscenes.records import SampleRecord

# Keyframes are half a second apart. A recording holds several scenes, with larger gaps between.
LONGEST_GAP_US = 1_000_000


def stuck_lidar(records: Sequence[SampleRecord], condition: Condition) -> list[SampleEdits]:
    """Stick the LiDAR of each sample with the condition's `probability` at the sample before.

    Source: nuScenes-R, discrete stuck frames: the file of one sample earlier, even if that one is
    stuck, too; the first sample of a scene is not replaced. There exactly a share of all samples
    is stuck, here each with that probability, so that it does not depend on what else is read.
    """
    return [
        SampleEdits(lidar=_edit(record, before, condition, LIDAR))
        for record, before in zip(records, previous_samples(records), strict=True)
    ]


def stuck_cameras(records: Sequence[SampleRecord], condition: Condition) -> list[SampleEdits]:
    """Stick each camera of each sample, independently; see `stuck_lidar`."""
    samples_edits = []
    for record, before in zip(records, previous_samples(records), strict=True):
        edits = {camera: _edit(record, before, condition, camera) for camera in CAMERAS}
        samples_edits.append(
            SampleEdits(cameras={camera: edit for camera, edit in edits.items() if edit})
        )
    return samples_edits


def previous_samples(records: Sequence[SampleRecord]) -> list[str | None]:
    """Return the token of the sample before each, None for the first of a scene.

    Args:
        records: in any order. If samples between were left out, those after a gap count as first.
    """
    previous: dict[str, str] = {}
    last: dict[str, SampleRecord] = {}
    for record in sorted(records, key=lambda record: (record.timestamp_us, record.token)):
        before = last.get(record.scene)
        if before and record.timestamp_us - before.timestamp_us <= LONGEST_GAP_US:
            previous[record.token] = before.token
        last[record.scene] = record
    return [previous.get(record.token) for record in records]


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
        records: by token, at least those that a sensor is stuck at.

    Raises:
        DatasetError: if the earlier sample is not at hand, or of another recording.
    """
    stuck = record
    if isinstance(edits.lidar, StuckAt):
        earlier = _earlier(record, edits.lidar, records)
        stuck = replace(
            record,
            lidar_file=earlier.lidar_file,
            sweeps=earlier.sweeps,
            timestamp_us=earlier.timestamp_us,
        )
    files = {camera.name: camera.file for camera in record.cameras}
    for name, edit in edits.cameras.items():
        if isinstance(edit, StuckAt):
            earlier = _earlier(record, edit, records)
            files[name] = next(view.file for view in earlier.cameras if view.name == name)
    if all(camera.file == files[camera.name] for camera in record.cameras):
        return stuck
    cameras = [replace(camera, file=files[camera.name]) for camera in record.cameras]
    return replace(stuck, cameras=tuple(cameras))


def _edit(
    record: SampleRecord, before: str | None, condition: Condition, sensor: str
) -> Edit | None:
    probability = condition.parameters["probability"]
    if before is None or not condition.draw(record.token, sensor).chance(probability):
        return None
    return StuckAt(before)


def _earlier(
    record: SampleRecord, edit: StuckAt, records: Mapping[str, SampleRecord]
) -> SampleRecord:
    earlier = records.get(edit.token)
    if earlier is None:
        raise DatasetError(
            f"sample {record.token}: a sensor is stuck at sample {edit.token}, which is not among "
            "the samples read; read the whole split"
        )
    if earlier.scene != record.scene or earlier.timestamp_us >= record.timestamp_us:
        raise DatasetError(
            f"sample {record.token}: a sensor is stuck at sample {edit.token}, which is not an "
            "earlier one of the same recording"
        )
    return earlier
