"""`extract-features ... --condition NAME --base STORE`: a delta store, filled like any store."""

import argparse
import logging
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cache.coordination.claims import WorkerSlice
from cache.delta.delta_metadata import ConditionSummary, DeltaMetadata, open_or_create_delta
from cache.delta.delta_plan import DeltaPlan
from cache.delta.delta_rows import PARTS, Part, part_rows, part_writer
from cache.delta.open_features import open_delta
from cache.format.metadata import Provenance
from cache.inspection.parity_record import checked_content
from cache.reader import CachedFeatures
from cache.storage.location import absolute_place
from cache.writer import StoreWriter
from shared.config.preset import Preset
from shared.process.device import device_name
from shared.wording import counted, duration
from stage1_extract.backbones.frozen import FrozenBackbones
from stage1_extract.backbones.live import LiveFeatures
from stage1_extract.backbones.sensor_rows import SensorRows
from stage1_extract.backbones.weights import frozen_backbones
from stage1_extract.extraction.delta.delta_options import require_options_of_base
from stage1_extract.extraction.delta.forgotten_sweeps import require_changed_sweeps
from stage1_extract.extraction.delta.geometry_rows import fill_geometry
from stage1_extract.extraction.delta.plan_of_condition import plan_of_condition
from stage1_extract.extraction.delta.same_recipe import require_same_files, require_same_recipe
from stage1_extract.extraction.extraction_identity import draws_of, recorded_batch_size
from stage1_extract.extraction.fill_store import fill_store
from stage1_extract.extraction.installed_versions import installed_versions
from stage1_extract.extraction.worker_slice import choose_cuda_device, choose_slice, without_slice
from stage1_extract.nuscenes.dataset_options import DatasetChoice, chosen_dataset
from stage1_extract.nuscenes.records import SampleRecord
from stage1_extract.preprocessing.conditioned_input import ConditionedInput
from stage1_extract.preprocessing.delta_frames import DeltaFrames
from stage1_extract.preprocessing.raw_frames import RawFrames

log = logging.getLogger(__name__)

MIB = 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class DeltaWork:
    """A delta to be filled.

    Args:
        base: its base.
        records: all samples of the base.
        conditioned: the condition.
        plan: where every feature comes from.
        frozen: the backbones; None if none has to run.
        batch_size: samples per forward.
    """

    base: CachedFeatures
    records: Sequence[SampleRecord]
    conditioned: ConditionedInput
    plan: DeltaPlan
    frozen: FrozenBackbones | None
    batch_size: int


def extract_delta(args: argparse.Namespace, preset: Preset, command: Sequence[str]) -> None:
    """Extract a delta store as the command line says.

    Raises:
        ConfigError: if the condition or an option cannot be used.
        IdentityError: if the base, or the delta to resume, was made from something else.
        CacheError: if the condition changes nothing.
    """
    started, worker_slice = time.monotonic(), choose_slice(args.slice)
    base = CachedFeatures(args.base)
    base.require_complete()
    batch_size = recorded_batch_size(base.identity)
    require_options_of_base(args, base, batch_size)
    dataset = chosen_dataset(args, base.provenance.dataset)
    records = dataset.read()
    conditioned = ConditionedInput(args.condition, records)
    plan = plan_of_condition(conditioned, records, base.preset, base.variants)
    if plan.uses_null:
        _ = base.null  # an error if there are none
    frozen = None
    if any(part_rows(plan, part) for part in ("camera", "lidar")):
        if preset.lidar is not None:
            require_changed_sweeps(conditioned, records, preset.lidar)
        choose_cuda_device()
        frozen, origin = frozen_backbones(preset, args.checkpoint, base.cut)
        log.info("%s on %s: %s", preset.name, frozen.device, origin)
    require_same_recipe(base, preset, records, dataset.version, frozen, batch_size)
    if frozen is not None:
        require_same_files(base, dataset.nuscenes)
    work = DeltaWork(
        base=base,
        records=records,
        conditioned=conditioned,
        plan=plan,
        frozen=frozen,
        batch_size=batch_size or 1,
    )
    metadata = open_or_create_delta(args.store, _metadata(work, dataset, args, command))
    left = _fill(work, metadata, args, worker_slice)
    seconds = time.monotonic() - started
    if left:
        log.info("left to other workers: %s; %s", counted(left, "shard"), duration(seconds))
        return
    # An error if it changes nothing, or if the base has been extended or rebuilt meanwhile.
    open_delta(args.store, CachedFeatures(args.base))
    size = sum(args.store.sizes().values())
    log.info("%s is complete, %.1f MB, %s", args.store, size / 1e6, duration(seconds))


def _metadata(
    work: DeltaWork, dataset: DatasetChoice, args: argparse.Namespace, command: Sequence[str]
) -> DeltaMetadata:
    condition, frozen = work.conditioned.condition, work.frozen
    return DeltaMetadata(
        condition=ConditionSummary(
            name=condition.name,
            family=condition.family,
            severity=condition.severity,
            source=condition.source,
        ),
        condition_identity=condition.identity,
        may_change_nothing=condition.may_change_nothing,
        base=checked_content(work.base.store),
        base_identity=work.base.identity,
        base_path=str(absolute_place(args.base)),
        plan=work.plan,
        provenance=Provenance(
            command=shlex.join(["extract-features", *without_slice(command)]),
            weights=work.base.provenance.weights,
            software=installed_versions(),
            dataset={**dataset.document(), "condition": args.condition},
            device="" if frozen is None else device_name(frozen.device),
        ),
    )


def _fill(
    work: DeltaWork, metadata: DeltaMetadata, args: argparse.Namespace, worker_slice: WorkerSlice
) -> int:
    """Fill every store inside the delta; return how many shards are left to other workers."""
    left = 0
    for part in PARTS:
        writer = part_writer(
            args.store,
            metadata,
            work.base.store,
            part,
            shard_bytes=args.shard_mib * MIB,
            batch_size=work.batch_size,
        )
        if writer is None:
            continue
        if part == "geometry":
            draws = draws_of(work.base.preset, work.base.variants)
            frames = RawFrames(work.records, work.base.preset, draws, work.conditioned)
            fill_geometry(writer, frames, worker_slice)
        elif writer.pending():
            assert work.frozen is not None, "rows of sensors are computed"
            fill_store(
                writer,
                work.records,
                work.frozen,
                batch_size=work.batch_size,
                workers=args.workers,
                worker_slice=worker_slice,
                sensor_rows=sensor_rows_of(work, work.frozen, part, writer),
            )
        left += len(writer.pending())
    return left


def sensor_rows_of(
    work: DeltaWork, frozen: FrozenBackbones, part: Part, writer: StoreWriter
) -> SensorRows:
    """Return what computes the rows of the camera or LiDAR store: that branch alone runs."""
    preset, draws = work.base.preset, draws_of(work.base.preset, work.base.variants)
    branch = replace(preset, lidar=None) if part == "camera" else replace(preset, camera=None)
    frames = DeltaFrames(
        work.records,
        branch,
        draws,
        work.conditioned,
        rows=part_rows(work.plan, part),
        slots=writer.store.layout.slots,
    )
    return SensorRows(LiveFeatures(work.records, frozen, draws, frames), frames)
