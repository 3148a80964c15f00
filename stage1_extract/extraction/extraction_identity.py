"""The identity of a store: what its features are made from; and the store that has it.

cuDNN, oneDNN and spconv choose their algorithms by the size of the batch, and these round
differently. On a CPU samples are computed one at a time, so nothing depends on `--batch-size`. On a
GPU a store has one batch size, which its identity names. A shard holds whole batches; the last
batch of the last shard of a variant is padded.
"""

import re
import shlex
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from cache.create import StoreSpec, codec_at, open_or_create
from cache.format.codec import CODECS
from cache.format.identity import Identity, identity_document
from cache.format.metadata import METADATA_FILE, Provenance, read_metadata
from cache.format.samples import Samples
from cache.storage.protocol import StorePath
from cache.writer import StoreWriter
from shared.config.augmentation import VariantDraws, official_augmentation
from shared.config.preset import Preset
from shared.digests import array_digest, json_digest
from shared.process.device import device_name
from stage1_extract.backbones.frozen import FrozenBackbones
from stage1_extract.extraction.installed_versions import installed_versions
from stage1_extract.extraction.stages.stage_widths import default_batch_size
from stage1_extract.extraction.worker_slice import processes_per_device, without_slice
from stage1_extract.nuscenes.dataset_options import DatasetChoice
from stage1_extract.nuscenes.records import SampleRecord

_BATCHES = re.compile(r"; batches of (\d+)$")


def store_identity(
    frozen: FrozenBackbones,
    records: Sequence[SampleRecord],
    dataset_version: str,
    *,
    value_format: str,
    variants: int = 1,
    batch_size: int | None = None,
) -> Identity:
    """Return the identity of the features that the backbones compute from the records.

    Args:
        frozen: on the device that computes.
        records: all samples of the store.
        dataset_version: e.g. "v1.0-trainval".
        value_format: see `cache.format.codec.Codec`.
        variants: per sample, the recorded one included.
        batch_size: see `precision_policy`.
    """
    return identity_document(
        preset=frozen.preset,
        cut=frozen.cut,
        precision=precision_policy(frozen, batch_size),
        value_format=value_format,
        weights=frozen.digests(),
        dataset_version=dataset_version,
        tokens=[record.token for record in records],
        inputs_digest=inputs_digest(records, frozen.preset),
        variants=variants,
        draws=draws_of(frozen.preset, variants),
    )


def open_or_create_store(
    path: StorePath,
    frozen: "FrozenBackbones",
    records: Sequence[SampleRecord],
    dataset: DatasetChoice,
    *,
    origin: str,
    command: Sequence[str],
    codec: str | None,
    variants: int,
    batch_size: int,
    shard_bytes: int,
    checks_sources: bool = True,
) -> StoreWriter:
    """Create the store, or open the store to resume.

    Sensor files of finished rows are compared, unless another worker of this run has just done so
    (`checks_sources`).

    Raises:
        IdentityError: if the existing store was made from something else.
        CacheError: if the path holds something else, or the store has a different codec.
    """
    codec = codec_at(path) if codec is None else codec
    identity = store_identity(
        frozen,
        records,
        dataset.version,
        value_format=CODECS[codec].value_format,
        variants=variants,
        batch_size=batch_size,
    )
    spec = StoreSpec(
        preset=frozen.preset,
        identity=identity,
        samples=Samples(
            tokens=tuple(record.token for record in records),
            scenes=tuple(record.scene for record in records),
            timestamps_us=tuple(record.timestamp_us for record in records),
        ),
        max_boxes=max(len(record.annotations.labels) for record in records),
        provenance=Provenance(
            command=shlex.join(["extract-features", *without_slice(command)]),
            weights=origin,
            software=installed_versions(),
            dataset=dataset.document(),
            device=device_name(frozen.device),
        ),
        codec=codec,
        shard_bytes=shard_bytes,
        rows_at_once=recorded_batch_size(identity) or 1,  # on a CPU always 1
        root=dataset.nuscenes if checks_sources else None,
    )
    return open_or_create(path, spec)


def draws_of(preset: Preset, variants: int) -> VariantDraws | None:
    """Return how a store's variants are drawn: as the official config augments its training."""
    return None if variants == 1 else VariantDraws(augmentation=official_augmentation(preset))


def precision_policy(frozen: FrozenBackbones, batch_size: int | None) -> str:
    """Return the precision policy of features.

    Args:
        frozen: on the device that computes.
        batch_size: of the forwards; on a CPU it does not count. None for a store that does not name
            it, as older versions wrote them.
    """
    if frozen.device.type == "cpu" or batch_size is None:
        return frozen.precision
    return f"{frozen.precision}; batches of {batch_size}"


def recorded_batch_size(identity: Identity) -> int | None:
    """Return the batch size that a store's identity names; None if it does not count."""
    named = _BATCHES.search(identity["precision"])
    return None if named is None else int(named[1])


def batch_size_at(path: StorePath, frozen: FrozenBackbones) -> int:
    """Return the batch size to go on with at `path`: the store's, or the default of a new store."""
    recorded = None
    if (path / METADATA_FILE).exists():
        recorded = recorded_batch_size(read_metadata(path).identity)
    return recorded or default_batch_size(frozen.preset, frozen.device, processes_per_device())


def inputs_digest(records: Sequence[SampleRecord], preset: Preset) -> str:
    """Return the digest of what is read from the tables for these samples."""
    return json_digest([_inputs(record, preset) for record in records])


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
