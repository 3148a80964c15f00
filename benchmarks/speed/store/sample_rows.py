"""The rows that everything is measured on: from a user's store, or synthetic."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.coordination.store import Store, open_store
from cache.create import StoreSpec, open_or_create
from cache.format.codec import CODECS, DEFAULT_CODEC, FLOAT16
from cache.format.identity import identity_document
from cache.format.layout import SHARD_BYTES
from cache.format.metadata import Provenance
from cache.format.samples import Samples
from cache.format.schema import ArraySpec
from cache.reader import CachedFeatures
from cache.writer import StoreWriter
from shared.config.cut import BACKBONE_CUT, Cut
from shared.config.preset import FeatureMap, Preset
from shared.config.preset_catalogue import r50_800x320
from shared.data.features import Annotations, Frame, FrameFeatures
from shared.digests import json_digest

COUNT = 24  # 0.6 GB of r50: far more than the processor's caches, far less than memory
BOXES = 40
SYNTHETIC = "synthetic"
# Share of LiDAR blocks without a point: the default codec then reaches 2.6 on LiDAR and 1.39 on
# camera maps, about the same as on random weights with calibrated BatchNorm (docs/store.md).
EMPTY_CELLS = 0.4


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """Rows of a float16 store, on disk and in memory.

    Args:
        name: of the store, or `SYNTHETIC`.
        store: which holds them.
        positions: of their samples in the store; variant 0.
        features: the same rows in memory.
    """

    name: str
    store: Store
    positions: tuple[int, ...]
    features: tuple[FrameFeatures, ...]

    @property
    def tokens(self) -> tuple[str, ...]:
        """Tokens of the samples."""
        return tuple(self.store.samples.tokens[position] for position in self.positions)

    @property
    def maps(self) -> tuple[ArraySpec, ...]:
        """Arrays of the feature maps."""
        return tuple(spec for spec in self.store.arrays if spec.feature_map is not None)

    @property
    def map_bytes(self) -> int:
        """Uncompressed bytes of the feature maps of all rows."""
        return len(self.positions) * sum(spec.row_bytes for spec in self.maps)


def stored_rows(path: Path, name: str, count: int) -> Rows:
    """Return the first rows of a store that are there.

    Raises:
        SystemExit: if it is quantised or has none.
    """
    store, source = open_store(path), CachedFeatures(path)
    if CODECS[store.metadata.codec].value_format != FLOAT16:
        raise SystemExit(f"{path} is quantised; name a store of float16 maps")
    missing = set(source.missing())
    present = [i for i, token in enumerate(source.tokens) if token not in missing][:count]
    if len(present) < 2:
        raise SystemExit(f"{path} holds {len(present)} samples; at least 2 are needed")
    features = source.read([source.tokens[i] for i in present])
    return Rows(name=name, store=store, positions=tuple(present), features=tuple(features))


def synthetic_rows(folder: Path, count: int) -> Rows:
    """Write a store of synthetic rows and return them."""
    path = folder / "synthetic.zarr"
    samples = synthetic_samples(count)
    writer = new_store(path, r50_800x320(), samples)
    for shard in writer.pending():
        places = range(shard.start, shard.start + len(shard.tokens))
        writer.write_shard(shard, [synthetic_features(samples, place) for place in places])
    return stored_rows(path, SYNTHETIC, count)


def synthetic_samples(count: int) -> Samples:
    """Return synthetic samples; their tokens are as long as those of nuScenes."""
    return Samples(
        tokens=tuple(json_digest(f"sample {i}")[:32] for i in range(count)),
        scenes=tuple(json_digest(f"scene {i // 40}")[:32] for i in range(count)),
        timestamps_us=tuple(1_500_000_000_000_000 + 500_000 * i for i in range(count)),
    )


def new_store(
    path: Path,
    preset: Preset,
    samples: Samples,
    *,
    codec: str = DEFAULT_CODEC,
    cut: Cut = BACKBONE_CUT,
    max_boxes: int = BOXES,
    variants: int = 1,
    command: str = "python -m benchmarks.speed.store",
    shard_bytes: int = SHARD_BYTES,
    rows_at_once: int = 1,
) -> StoreWriter:
    """Create a store with an invented identity; `command` is recorded as what made it."""
    identity = identity_document(
        preset=preset,
        precision="float32",
        value_format=CODECS[codec].value_format,
        weights={"made up": "0" * 64},
        dataset_version="none",
        tokens=samples.tokens,
        inputs_digest="0" * 64,
        cut=cut,
        variants=variants,
    )
    spec = StoreSpec(
        preset=preset,
        identity=identity,
        samples=samples,
        max_boxes=max_boxes,
        provenance=Provenance(command=command, weights="none", software={}),
        codec=codec,
        shard_bytes=shard_bytes,
        rows_at_once=rows_at_once,
    )
    return open_or_create(path, spec)


def renamed(features: Sequence[FrameFeatures], samples: Samples) -> Iterator[FrameFeatures]:
    """Yield features under the tokens of other samples, with float32 maps as from a backbone."""
    for i, row in enumerate(features):
        maps = {name: np.asarray(values, np.float32) for name, values in row.maps.items()}
        yield FrameFeatures(frame=frame_as(row.frame, samples, i), maps=maps)


def frame_as(frame: Frame, samples: Samples, place: int) -> Frame:
    """Return the frame under the names of a sample."""
    return replace(
        frame,
        token=samples.tokens[place],
        scene=samples.scenes[place],
        timestamp_us=samples.timestamps_us[place],
    )


def synthetic_features(samples: Samples, place: int) -> FrameFeatures:
    generator = np.random.default_rng(place)
    boxes = generator.standard_normal((BOXES, 9)).astype(np.float32)
    numbers = np.arange(BOXES, dtype=np.int64) % 10
    frame = Frame(
        token=samples.tokens[place],
        scene=samples.scenes[place],
        timestamp_us=samples.timestamps_us[place],
        variant=0,
        img_from_lidar=generator.standard_normal((6, 4, 4)),
        ego_from_lidar=np.eye(4),
        global_from_ego=np.eye(4),
        annotations=Annotations(
            boxes_lidar=boxes, labels=numbers, lidar_points=numbers, radar_points=numbers
        ),
    )
    maps = {spec.name: map_values(spec, generator) for spec in r50_800x320().maps}
    return FrameFeatures(frame=frame, maps=maps)


def map_values(spec: FeatureMap, generator: np.random.Generator) -> NDArray[Any]:
    """Return normal numbers after a ReLU, each channel with its own mean and scale."""
    values = generator.standard_normal(spec.shape, np.float32)
    planes = (spec.shape[-3], 1, 1)
    values += generator.normal(0.9 if spec.dims.startswith("V") else 0.0, 0.3, planes)
    values *= generator.lognormal(0.0, 0.3, planes)
    np.maximum(values, 0, out=values)
    if not spec.dims.startswith("V"):
        rows, columns = spec.shape[-2:]
        coarse = generator.random([-(-rows // 8), -(-columns // 8)]) < EMPTY_CELLS
        values *= ~np.kron(coarse, np.ones((8, 8), bool))[:rows, :columns]
    return values
