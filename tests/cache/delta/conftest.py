"""Small stores with null features, to be the base of deltas."""

import os
import shutil
from pathlib import Path

import pytest

from cache.format.codec import DEFAULT_CODEC
from cache.reader import CachedFeatures
from tests.cache.conftest import (
    fill,
    fill_null,
    make_null_writer,
    make_writer,
)


def write_base(path: Path, *, variants: int = 1, codec: str = DEFAULT_CODEC) -> CachedFeatures:
    """Write a finished store of the small preset with null features."""
    fill(make_writer(path, variants=variants, codec=codec))
    fill_null(make_null_writer(path))
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
