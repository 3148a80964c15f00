"""Stores for the tests of loading."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def copy(tiny_store: Path, tmp_path: Path) -> Path:
    """A store that a test may damage."""
    return Path(shutil.copytree(tiny_store, tmp_path / "copy.zarr"))
