"""Pictures are made of whole sensor files, or not at all."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shared.errors import DatasetError
from stage1_extract.nuscenes.nuscenes_tables import read_tables
from stage1_extract.nuscenes.records import SampleRecord
from stage1_extract.plots.plot_scene import plot_scene
from stage1_extract.plots.plot_weights_on_photos import SavedSensorWeights, plot_weights_on_photos

Plot = Callable[[SampleRecord, Path], None]


def scene(record: SampleRecord, out: Path) -> None:
    plot_scene(record, (), out / "scene.png")


def weights(record: SampleRecord, out: Path) -> None:
    saved = SavedSensorWeights(
        tokens=(record.token,),
        references_m=np.ones((2, 3), np.float32),
        weights={"all": np.zeros((1, 2, 2), np.float32)},
    )
    plot_weights_on_photos([record], saved, out, samples=1)


@pytest.fixture
def record(synthetic_root: Path, tmp_path: Path) -> SampleRecord:
    """Return a sample whose files may be damaged."""
    root = shutil.copytree(synthetic_root, tmp_path / "nuscenes")
    return read_tables(root, "v1.0-mini", "mini_val")[0]


@pytest.mark.parametrize("plot", [scene, weights])
def test_a_missing_or_truncated_photo_is_named_and_not_plotted(
    record: SampleRecord, tmp_path: Path, plot: Plot
) -> None:
    file, out = record.cameras[2].file, tmp_path / "out"
    out.mkdir()
    whole = file.read_bytes()
    for left, what in ((whole[: len(whole) // 2], "truncated"), (None, "cannot be read")):
        if left is None:
            file.unlink()
        else:
            file.write_bytes(left)
        named = f"sample {record.token}: image {re.escape(str(file))} .*{what}"
        with pytest.raises(DatasetError, match=named):
            plot(record, out)
    assert not list(out.iterdir())
