"""The feature stores inside a delta store: which rows they have, how they are made and read.

They are ordinary stores, so writing, resuming, verifying and repairing them is as for any other.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from cache.coordination.completeness import Completeness
from cache.coordination.read_arrays import map_buffers, read_arrays
from cache.coordination.store import Store
from cache.coordination.store_inside import open_inside
from cache.create import StoreSpec, open_or_create
from cache.delta.delta_metadata import DeltaMetadata, finish_command
from cache.delta.delta_plan import DeltaPlan
from cache.format.identity import PART, Identity
from cache.format.layout import SHARD_BYTES
from cache.format.metadata import Metadata
from cache.format.samples import Samples
from cache.format.schema import ArraySpec, frame_specs, map_specs
from cache.storage.protocol import StorePath
from cache.writer import StoreWriter
from shared.config.classes import CAMERAS, LIDAR
from shared.config.cut import parse_cut
from shared.config.preset import FeatureMap
from shared.data.features import NO_ANNOTATIONS, NO_CAMERAS, Frame, MapValues
from shared.digests import json_digest
from shared.errors import CacheError

Part = Literal["camera", "lidar", "geometry"]
PARTS: tuple[Part, ...] = ("camera", "lidar", "geometry")
ONE_BOX = 1  # space that a row reserves; it has no boxes

RowPlace = tuple[int, str]  # position of a sample in the base; sensor, "" for geometry


def row_token(token: str, sensor: str) -> str:
    """Return the token of a row: a view's has its camera, e.g. "ca9a/CAM_BACK"."""
    return f"{token}/{sensor}" if sensor in CAMERAS else token


def part_rows(plan: DeltaPlan, part: Part) -> list[RowPlace]:
    """Return position and sensor of every row of a store inside a delta, in its order."""
    if part == "geometry":
        return [(place, "") for place in range(plan.samples)] if plan.has_geometry else []
    return list(plan.rows(CAMERAS if part == "camera" else (LIDAR,)))


def row_frame(frame: Frame, sensor: str) -> Frame:
    """Return the frame of a delta's row: without boxes, and projections only in geometry rows."""
    return replace(
        frame,
        token=row_token(frame.token, sensor),
        img_from_lidar=NO_CAMERAS if sensor else frame.img_from_lidar,
        annotations=NO_ANNOTATIONS,
    )


def part_writer(
    path: StorePath,
    metadata: DeltaMetadata,
    base: Store,
    part: Part,
    shard_bytes: int = SHARD_BYTES,
    batch_size: int = 1,
) -> StoreWriter | None:
    """Open or create a store inside the delta at `path`; None if it would have no rows.

    Args:
        path: of the delta.
        metadata: of the delta.
        base: its base.
        part: which store.
        shard_bytes: uncompressed size of a shard.
        batch_size: samples per forward. A shard holds whole batches of samples all of whose views
            are rows, or one, two or three.

    Raises:
        IdentityError: if the store there was made from something else.
        InsideError: if it is damaged.
    """
    rows = part_rows(metadata.plan, part)
    if not rows:
        return None
    open_part(path, metadata, part)  # if damaged, its error says what to do
    arrays = part_arrays(base.metadata, part)
    # The views of a sample, computed together, are written together.
    views = len(CAMERAS) if part == "camera" else 1
    samples = base.samples
    tokens = tuple(row_token(samples.tokens[place], sensor) for place, sensor in rows)
    spec = StoreSpec(
        preset=base.metadata.preset,
        identity=_part_identity(metadata, part, tokens),
        samples=Samples(
            tokens=tokens,
            scenes=tuple(samples.scenes[place] for place, _ in rows),
            timestamps_us=tuple(samples.timestamps_us[place] for place, _ in rows),
        ),
        max_boxes=ONE_BOX,
        provenance=metadata.provenance,
        codec=base.metadata.codec,
        shard_bytes=shard_bytes,
        rows_at_once=1 if part == "geometry" else views * batch_size,
        arrays=arrays,
    )
    return open_or_create(path / part, spec)


def part_arrays(base: Metadata, part: Part) -> tuple[ArraySpec, ...]:
    """Return the arrays of a row of a store inside a delta: a view's maps lack the axis of views.

    Args:
        base: of the base.
        part: which store.
    """
    cut, codec = parse_cut(base.identity["cut"]), base.codec
    if part == "geometry":
        return frame_specs(ONE_BOX, has_cameras=True)
    maps = cut.lidar_maps(base.preset) if part == "lidar" else _view_maps(base)
    specs = [spec for feature_map in maps for spec in map_specs(feature_map, codec)]
    return (*specs, *frame_specs(ONE_BOX, has_cameras=False))


def _view_maps(base: Metadata) -> list[FeatureMap]:
    maps = parse_cut(base.identity["cut"]).camera_maps(base.preset)
    return [replace(whole, dims=whole.dims[1:], shape=whole.shape[1:]) for whole in maps]


def _part_identity(metadata: DeltaMetadata, part: Part, tokens: tuple[str, ...]) -> Identity:
    dataset = {**metadata.base_identity["dataset"], "tokens": json_digest(list(tokens))}
    return {**metadata.identity, "dataset": dataset, PART: part}


def needed_parts(plan: DeltaPlan, *, with_files: bool = False) -> list[Part]:
    """Return the stores inside a delta that have rows.

    Args:
        plan: of the delta.
        with_files: only those whose rows are made from sensor files.
    """
    parts = [part for part in PARTS if part_rows(plan, part)]
    return [part for part in parts if not (with_files and part == "geometry")]


def open_part(path: StorePath, metadata: DeltaMetadata, part: Part) -> Store | None:
    """Open a store inside the delta at `path`; None where it is not there yet.

    Raises:
        InsideError: if it is damaged, or from a different delta.
    """

    def identity_of(store: Store) -> Identity:
        return _part_identity(metadata, part, tuple(store.samples.tokens))

    return open_inside(path / part, identity_of, finish_command(path, metadata))


def open_parts(path: StorePath, metadata: DeltaMetadata) -> dict[Part, Store]:
    """Open the stores inside a delta that have rows, finished or not.

    Raises:
        CacheError: if one is not there or damaged.
    """
    parts: dict[Part, Store] = {}
    for part in needed_parts(metadata.plan):
        store = open_part(path, metadata, part)
        if store is None:
            raise CacheError(
                f"{path} is not finished: its {part} rows are missing. Finish it with: "
                f"{finish_command(path, metadata)}"
            )
        parts[part] = store
    return parts


class RowReader:
    """Reads maps of a store's rows into existing memory; several threads may share it.

    Args:
        store: the base, or a store inside a delta.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.completeness = Completeness(store)
        self._specs = tuple(spec for spec in store.arrays if spec.feature_map is not None)

    def read_into(self, maps: Mapping[str, MapValues], token: str, variant: int) -> None:
        """Fill some or all of a row's maps.

        Raises:
            MissingRowError: if the row is not there.
            CacheError: if it is damaged.
        """
        buffers = map_buffers(self._specs, maps)
        wanted = [spec for spec in self._specs if spec.name in buffers]
        place = self.completeness.position(token, variant)
        read_arrays(self.store, wanted, place, variant, variant, buffers)
