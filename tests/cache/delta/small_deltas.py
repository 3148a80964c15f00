"""Deltas of random arrays beside a store of any preset, written without stage 1.

`write_small_delta(path, base, plan_of(base, {CAMERAS[0]: "r..a", LIDAR: ".rs."}))` is a finished
delta whose rows are random; `row_maps` returns what such a row holds.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cache.delta.delta_metadata import ConditionSummary, DeltaMetadata, open_or_create_delta
from cache.delta.delta_plan import STUCK, DeltaPlan, SensorPlan
from cache.delta.delta_rows import PARTS, Part, part_arrays, part_rows, part_writer, row_frame
from cache.format.metadata import Provenance
from cache.format.schema import ArraySpec, row_bytes
from cache.inspection.parity_record import checked_content
from cache.reader import CachedFeatures
from cache.storage.location import as_store_path
from cache.storage.protocol import StorePath
from cache.writer import StoreWriter
from shared.data.features import FrameFeatures

COMMAND = "extract-features small --condition shaken-2 --base HERE --store THERE"


def plan_of(
    base: CachedFeatures, letters: Mapping[str, str], *, has_geometry: bool = False
) -> DeltaPlan:
    """Return a plan from letters by sensor; a stuck sensor delivers the sample before."""
    return DeltaPlan(
        samples=len(base.tokens),
        sensors={
            sensor: SensorPlan(
                letters=text,
                stuck_at={i: i - 1 for i, letter in enumerate(text) if letter == STUCK},
            )
            for sensor, text in letters.items()
        },
        has_geometry=has_geometry,
    )


def delta_metadata(
    base: CachedFeatures, plan: DeltaPlan, *, name: str = "shaken-2", **fields: Any
) -> DeltaMetadata:
    """Return the document of a delta of a made-up condition."""
    known = {
        "condition": ConditionSummary(name=name, family="shaken", severity=2, source="made up"),
        "condition_identity": {"name": name, "family": "shaken", "parameters": {"share": 0.5}},
        "may_change_nothing": False,
        "base": checked_content(base.store),
        "base_identity": base.identity,
        "base_path": str(base.path),
        "plan": plan,
        "provenance": Provenance(command=COMMAND, weights="none", software={"torch": "2.13.0"}),
    }
    return DeltaMetadata(**{**known, **fields})


def write_small_delta(
    path: Path | StorePath,
    base: CachedFeatures,
    plan: DeltaPlan,
    *,
    shards: int | None = None,
    rows_per_shard: int = 2,
    **fields: Any,
) -> DeltaMetadata:
    """Write a delta whose rows are random, as `row_maps` has them.

    Args:
        path: where.
        base: finished.
        plan: see `plan_of`.
        shards: of each store inside, at most; None for a finished delta.
        rows_per_shard: of LiDAR and geometry; a shard of cameras has at least six views.
        fields: of `DeltaMetadata`, to replace.
    """
    place = as_store_path(path)
    metadata = open_or_create_delta(place, delta_metadata(base, plan, **fields))
    for part in PARTS:
        size = row_bytes(part_arrays(base.store.metadata, part))
        writer = part_writer(place, metadata, base.store, part, shard_bytes=rows_per_shard * size)
        if writer is not None:
            _fill(writer, metadata, base, part, shards)
    return metadata


def row_maps(arrays: Sequence[ArraySpec], token: str, variant: int) -> dict[str, np.ndarray]:
    """Return the random maps of a row, float32: they follow from its token and variant alone."""
    digest = hashlib.sha256(f"{token} {variant}".encode()).digest()
    generator = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    return {
        spec.name: generator.standard_normal(spec.shape).astype(np.float32)
        for spec in arrays
        if spec.feature_map == spec.name
    }


def _fill(
    writer: StoreWriter,
    metadata: DeltaMetadata,
    base: CachedFeatures,
    part: Part,
    shards: int | None,
) -> None:
    rows = part_rows(metadata.plan, part)
    for shard in writer.pending()[:shards]:
        features = []
        for number, token in enumerate(shard.tokens, start=shard.start):
            place, sensor = rows[number]
            frame = row_frame(base.frame(base.tokens[place], shard.variant), sensor)
            if part == "geometry":
                frame.img_from_lidar[...] *= 2
            maps = row_maps(writer.store.arrays, token, shard.variant)
            features.append(FrameFeatures(frame=frame, maps=maps))
        writer.write_shard(shard, features)


def rebuild_base(path: Path, base: CachedFeatures, change: float) -> None:
    """Write a store again with the same identity and other values in its first map."""
    writer = StoreWriter(path)
    for shard in writer.shards:
        ledger = writer.store.ledger
        features = base.read(shard.tokens, shard.variant)
        ledger.drop(shard.index, ledger.fingerprint(shard.index))
        changed = []
        for sample in features:
            name, values = next(iter(sample.maps.items()))
            assert isinstance(values, np.ndarray)
            moved = (values.astype(np.float32) + change).astype(np.float32)
            rest = {k: np.asarray(v, np.float32) for k, v in sample.maps.items()}
            changed.append(FrameFeatures(frame=sample.frame, maps={**rest, name: moved}))
        writer.write_shard(shard, changed)
