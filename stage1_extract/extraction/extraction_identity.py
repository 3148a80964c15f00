"""The identity of a store: what its features are made from."""

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from cache.format.identity import Identity, identity_document
from shared.config.augmentation import VariantDraws, official_augmentation
from shared.config.preset import Preset
from shared.digests import array_digest, json_digest
from stage1_extract.backbones.frozen import FrozenBackbones
from stage1_extract.nuscenes.records import SampleRecord


def store_identity(
    frozen: FrozenBackbones,
    records: Sequence[SampleRecord],
    dataset_version: str,
    *,
    value_format: str,
    variants: int = 1,
) -> Identity:
    """Return the identity of the features that the backbones compute from the records."""
    return identity_document(
        preset=frozen.preset,
        cut=frozen.cut,
        precision=frozen.precision,
        value_format=value_format,
        weights=frozen.digests(),
        dataset_version=dataset_version,
        tokens=[record.token for record in records],
        inputs_digest=json_digest([_inputs(record, frozen.preset) for record in records]),
        variants=variants,
        draws=draws_of(frozen.preset, variants),
    )


def draws_of(preset: Preset, variants: int) -> VariantDraws | None:
    """Return how a store's variants are drawn: as the official config augments its training."""
    return None if variants == 1 else VariantDraws(augmentation=official_augmentation(preset))


def _inputs(record: SampleRecord, preset: Preset) -> list[object]:
    """List what a row is made from besides weights; files by their path below the dataset root.

    Sensors that the preset does not use do not count.
    """
    annotations = record.annotations
    cameras = () if preset.camera is None else record.cameras
    sweeps = () if preset.lidar is None else record.sweeps
    keyframe = () if preset.lidar is None else (record.lidar_file,)
    arrays: list[NDArray[Any]] = [
        record.ego_from_lidar,
        record.global_from_ego,
        *(array for sweep in sweeps for array in (sweep.rotation, sweep.translation_m)),
        *(
            array
            for camera in cameras
            for array in (camera.intrinsics, camera.rotation, camera.translation_m)
        ),
        annotations.boxes_lidar,
        annotations.labels,
        annotations.lidar_points,
        annotations.radar_points,
    ]
    return [
        record.token,
        record.timestamp_us,
        [record.relative(file) for file in (*keyframe, *(camera.file for camera in cameras))],
        [(record.relative(sweep.file), sweep.timestamp_us) for sweep in sweeps],
        [array_digest(array) for array in arrays],
    ]
