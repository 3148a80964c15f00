"""The small data sets, written to disk and read by nuscenes-devkit."""

from pathlib import Path
from typing import Any

import pytest

from shared.synthetic_nuscenes import write_synthetic_nuscenes
from tests.shared.synthetic_nuscenes.small_sets import SMALL, SMALLEST


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synthetic")
    write_synthetic_nuscenes(out, SMALL, workers=2)
    return out


@pytest.fixture(scope="session")
def tables(root: Path) -> Any:
    nuscenes = pytest.importorskip("nuscenes", reason="needs nuscenes-devkit")
    return nuscenes.NuScenes("v1.0-mini", str(root), verbose=False)


@pytest.fixture
def smallest(tmp_path: Path) -> Path:
    out = tmp_path / "smallest"
    write_synthetic_nuscenes(out, SMALLEST, workers=1)
    return out
