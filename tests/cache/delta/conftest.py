"""Small stores with null features, to be the base of deltas."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cache.coordination.null_store import NULL_SAMPLES, null_identity, null_path
from cache.create import StoreSpec, open_or_create
from cache.format.codec import DEFAULT_CODEC
from cache.format.metadata import Provenance
from cache.reader import CachedFeatures
from tests.cache.conftest import (
    COMMAND,
    fill,
    make_features,
    make_identity,
    make_writer,
    small_preset,
)


def write_base(path: Path, *, variants: int = 1, codec: str = DEFAULT_CODEC) -> CachedFeatures:
    """Write a finished store of the small preset with null features."""
    fill(make_writer(path, variants=variants, codec=codec))
    spec = StoreSpec(
        preset=small_preset(),
        identity=null_identity(make_identity(variants=variants, codec=codec)),
        samples=NULL_SAMPLES,
        max_boxes=1,
        provenance=Provenance(command=COMMAND, weights="none", software={}),
        codec=codec,
    )
    writer = open_or_create(null_path(CachedFeatures(path).path), spec)
    sample = make_features("ant")
    frame = replace(
        sample.frame,
        token=NULL_SAMPLES.tokens[0],
        scene=NULL_SAMPLES.scenes[0],
        timestamp_us=NULL_SAMPLES.timestamps_us[0],
    )
    maps = {name: np.full_like(values, 7.5) for name, values in sample.maps.items()}
    for shard in writer.pending():
        writer.write_shard(shard, [replace(sample, frame=frame, maps=maps)])
    return CachedFeatures(path)


@pytest.fixture(autouse=True)
def _no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(scope="session")
def base_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bases") / "base.zarr"
    write_base(path)
    return path


@pytest.fixture
def base(base_template: Path, tmp_path: Path) -> CachedFeatures:
    """A finished store of ant, bee, cow, dog, elk, whose null features are 7.5."""
    return CachedFeatures(shutil.copytree(base_template, tmp_path / "base.zarr"))
