"""A made-up preset whose rows are a few hundred numbers, and stores of it."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import cache.storage.bucket
from cache.coordination.null_store import NULL_SAMPLES, null_identity, null_path
from cache.coordination.store import open_store
from cache.create import StoreSpec, open_or_create
from cache.format.codec import CODECS, DEFAULT_CODEC
from cache.format.identity import Identity, identity_document
from cache.format.metadata import Provenance
from cache.format.samples import Samples
from cache.format.schema import array_specs, row_bytes
from cache.storage.location import as_store_path
from cache.storage.protocol import StorePath
from cache.writer import StoreWriter
from shared.config.head_config import HeadConfig
from shared.config.preset import CameraBranch, LidarBranch, PointGrid, Preset
from shared.data.features import Annotations, Frame, FrameFeatures, SourceFile, Sources
from shared.digests import json_digest
from tests.flaky_server import Flaky, flaky_server

TOKENS = ("ant", "bee", "cow", "dog", "elk")
COMMAND = "extract-features small --store HERE"
MAX_BOXES = 3


def command_of(store: Path | str) -> str:
    """Return the line that finishes or repairs a store where it is."""
    return COMMAND.replace("HERE", str(store))


def small_preset() -> Preset:
    """Maps (6, 16, 2, 4), (6, 32, 1, 2), (2, 4, 4) and (3, 2, 2)."""
    return Preset(
        name="small",
        camera=CameraBranch(
            backbone="resnet50", base_channels=1, height_px=32, width_px=64, resize_lim=(0.04, 0.05)
        ),
        grid=PointGrid(
            point_range_m=(-16.0, -16.0, -5.0, 16.0, 16.0, 3.0),
            voxel_m=(1.0, 1.0, 0.2),
            sparse_shape=(41, 32, 32),
        ),
        lidar=LidarBranch(
            encoder_channels=((2, 2), (2, 2)),
            encoder_out_channels=2,
            second_channels=(2, 3),
            second_layers=(1, 1),
        ),
        head=HeadConfig(),
    )


def make_samples(tokens: tuple[str, ...] = TOKENS) -> Samples:
    """Return samples whose scene and time follow from the token."""
    return Samples(
        tokens=tokens,
        scenes=tuple(f"scene-of-{token}" for token in tokens),
        timestamps_us=tuple(1_500_000_000_000_000 + TOKENS.index(token) for token in tokens),
    )


def make_features(token: str, *, variant: int = 0, boxes: int | None = None) -> FrameFeatures:
    """Return features that follow from token and variant; the n-th sample has n % 4 boxes."""
    number = TOKENS.index(token)
    boxes = number % 4 if boxes is None else boxes
    generator = np.random.default_rng(10 * number + variant)
    maps = {
        feature_map.name: generator.standard_normal(feature_map.shape).astype(np.float32)
        for feature_map in small_preset().maps
    }
    boxes_lidar = generator.standard_normal((boxes, 9)).astype(np.float32)
    boxes_lidar[:, 7:] = np.nan  # nuScenes has no velocity for some boxes
    frame = Frame(
        token=token,
        scene=f"scene-of-{token}",
        timestamp_us=1_500_000_000_000_000 + number,
        variant=variant,
        img_from_lidar=generator.standard_normal((6, 4, 4)),
        ego_from_lidar=generator.standard_normal((4, 4)),
        global_from_ego=generator.standard_normal((4, 4)),
        annotations=Annotations(
            boxes_lidar=boxes_lidar,
            labels=np.arange(boxes, dtype=np.int64) - 1,
            lidar_points=np.arange(boxes, dtype=np.int64) + 7,
            radar_points=np.zeros(boxes, np.int64),
        ),
    )
    return FrameFeatures(frame=frame, maps=maps, sources=make_sources(token))


def make_sources(token: str) -> Sources:
    """Return the files of a sample: each holds its name; a keyframe is a sweep of the next one."""
    number = TOKENS.index(token)
    sweeps = [f"samples/LIDAR/{name}.bin" for name in TOKENS[max(0, number - 1) : number + 1][::-1]]
    names = {"camera": [f"samples/CAM_{view}/{token}.jpg" for view in range(6)], "lidar": sweeps}
    return {
        sensor: tuple(SourceFile(name, hashlib.sha256(name.encode()).hexdigest()) for name in files)
        for sensor, files in names.items()
    }


def write_sources(root: Path, tokens: tuple[str, ...] = TOKENS) -> Path:
    """Write the files of `make_sources` below a root, and return it."""
    for files in (files for token in tokens for files in make_sources(token).values()):
        for file in files:
            (root / file.name).parent.mkdir(parents=True, exist_ok=True)
            (root / file.name).write_text(file.name)
    return root


def with_map(features: FrameFeatures, name: str, values: np.ndarray) -> FrameFeatures:
    """Return the same frame with a different map."""
    return replace(features, maps={**features.maps, name: values})


def make_identity(
    *,
    tokens: tuple[str, ...] = TOKENS,
    variants: int = 1,
    precision: str = "float32 compute",
    codec: str = DEFAULT_CODEC,
) -> Identity:
    """Identity of the small preset, with made-up digests."""
    return identity_document(
        preset=small_preset(),
        precision=precision,
        value_format=CODECS[codec].value_format,
        weights={"img_backbone": "a" * 64, "pts_backbone": "b" * 64},
        dataset_version="v1.0-mini",
        tokens=tokens,
        inputs_digest="c" * 64,
        variants=variants,
    )


def make_writer(
    path: Path | StorePath,
    *,
    tokens: tuple[str, ...] = TOKENS,
    rows_per_shard: int = 2,
    variants: int = 1,
    max_boxes: int = MAX_BOXES,
    codec: str = DEFAULT_CODEC,
    root: Path | None = None,
    precision: str = "float32 compute",
    dataset: Mapping[str, str] | None = None,
) -> StoreWriter:
    """Create or open a store of the small preset."""
    spec = StoreSpec(
        preset=small_preset(),
        identity=make_identity(tokens=tokens, variants=variants, precision=precision, codec=codec),
        samples=make_samples(tokens),
        max_boxes=max_boxes,
        provenance=Provenance(
            command=COMMAND,
            weights="none",
            software={"torch": "2.13.0"},
            dataset=dict(dataset or {}),
        ),
        codec=codec,
        shard_bytes=rows_per_shard * row_bytes(array_specs(small_preset(), max_boxes, codec)),
        root=root,
    )
    return open_or_create(path, spec)


def fill(writer: StoreWriter, *, shards: int | None = None) -> None:
    """Write the first pending shards, or all."""
    for shard in writer.pending()[:shards]:
        writer.write_shard(shard, [make_features(t, variant=shard.variant) for t in shard.tokens])


def make_null_writer(store: Path | StorePath) -> StoreWriter:
    """Create or open the null features of a store of the small preset."""
    metadata = open_store(store).metadata
    spec = StoreSpec(
        preset=metadata.preset,
        identity=null_identity(metadata.identity),
        samples=NULL_SAMPLES,
        max_boxes=1,
        provenance=metadata.provenance,
        codec=metadata.codec,
    )
    return open_or_create(null_path(as_store_path(store)), spec)


def fill_null(writer: StoreWriter) -> None:
    """Write null features, which are 7.5 everywhere."""
    ant, token = make_features("ant"), NULL_SAMPLES.tokens[0]
    frame = replace(ant.frame, token=token, scene=NULL_SAMPLES.scenes[0], timestamp_us=0)
    maps = {name: np.full_like(values, 7.5) for name, values in ant.maps.items()}
    for shard in writer.pending():
        writer.write_shard(shard, [replace(ant, frame=frame, maps=maps)])


def without_sources(store: Path, *shards: int) -> None:
    """Make ledger entries what an earlier version wrote."""
    for shard in shards:
        without_field(store / f"ledger/{shard:06d}.json", "sources")


def without_field(file: Path, name: str) -> None:
    """Take a field out of a ledger entry, and give it a checksum that fits."""
    document = json.loads(file.read_text())
    del document["checksum"], document[name]
    file.write_text(json.dumps({**document, "checksum": json_digest(document)}))


@pytest.fixture(autouse=True)
def _do_not_wait_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """`fsync` matters when the power fails, which no test here does; it is half of their time."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stores to copy, which is faster than writing one for every test."""
    path = tmp_path_factory.mktemp("templates")
    fill(make_writer(path / "finished"))
    fill(make_writer(path / "begun"), shards=1)
    return path


@pytest.fixture
def finished(templates: Path, tmp_path: Path) -> Path:
    """A finished store: shards (ant, bee), (cow, dog), (elk)."""
    return shutil.copytree(templates / "finished", tmp_path / "finished.zarr")


@pytest.fixture
def begun(templates: Path, tmp_path: Path) -> Path:
    """A store with only the first shard (ant, bee)."""
    return shutil.copytree(templates / "begun", tmp_path / "begun.zarr")


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished store of every codec; tests must not write to them."""
    path = tmp_path_factory.mktemp("codecs")
    for codec in CODECS:
        fill(make_writer(path / codec, codec=codec))
    return {codec: path / codec for codec in CODECS}


@pytest.fixture
def flaky(s3: str, s3_server: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> Iterator[Flaky]:
    """A flaky server in front of the S3 server, and little patience with it."""
    monkeypatch.setattr(cache.storage.bucket, "FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(cache.storage.bucket, "PATIENCE_S", 0.05)
    monkeypatch.setattr(cache.storage.bucket, "QUICK_RETRIES", 0)
    with flaky_server(s3_server) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        yield server
