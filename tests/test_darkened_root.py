"""A copy of nuScenes with the same tables and other sensor files never passes for the same.

The images of `darkened_root` have 30% of their brightness, as in a published robustness benchmark.
"""

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from cache.__main__ import main as feature_cache
from cache.coordination.store import open_store
from cache.reader import CachedFeatures
from stage1_extract.__main__ import main as extract_features
from stage1_extract.nuscenes.nuscenes_tables import read_tables
from stage2_train.__main__ import main as train_stage2

VERSION, SPLIT, SAMPLES = "v1.0-mini", "mini_train", 3
BRIGHTNESS = 0.3


def darken(image: Path) -> None:
    """Replace a JPEG by a darker one; a hard link to another copy is left alone."""
    pixels = cv2.imread(str(image)).astype(np.float32) * BRIGHTNESS
    encoded = cv2.imencode(".jpg", pixels.astype(np.uint8))[1].tobytes()
    image.unlink()
    image.write_bytes(encoded)


def extract(root: Path, store: Path, *more: str) -> int:
    where = ["--nuscenes", str(root), "--version", VERSION, "--split", SPLIT]
    return extract_features(["tiny", *where, "--store", str(store), *more])


def contents(path: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.fixture
def copied_root(synthetic_root: Path, tmp_path: Path) -> Path:
    """The same bytes elsewhere, as hard links: unlink a file before it is changed."""
    return shutil.copytree(synthetic_root, tmp_path / "copy", copy_function=os.link)


@pytest.fixture(scope="module")
def darkened_root(synthetic_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("darkened") / "nuscenes"
    shutil.copytree(synthetic_root, root)
    for image in (root / "samples").rglob("*.jpg"):
        darken(image)
    return root


@pytest.fixture(scope="module")
def darkened_store(darkened_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("stores") / "dark.zarr"
    assert extract(darkened_root, store) == 0
    return store


@pytest.fixture
def bright_store(tiny_store: Path, tmp_path: Path) -> Path:
    """A finished store of the original images, to be resumed."""
    return shutil.copytree(tiny_store, tmp_path / "bright.zarr")


@pytest.fixture(scope="module")
def unfinished_store(synthetic_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two of three samples, in the first of two shards."""
    store = tmp_path_factory.mktemp("stores") / "unfinished.zarr"
    assert extract(synthetic_root, store, "--shard-mib", "1") == 0
    (store / "ledger/000001.json").unlink()
    assert len(open_store(store).ledger.read(0).tokens) == 2
    return store


def test_diff_counts_the_samples_with_other_images(
    tiny_store: Path, darkened_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert feature_cache(["diff", str(tiny_store), str(darkened_store)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "same tables, other sensor files: camera of 3 of 3 samples, lidar of 0",
        "    to extract anew: camera/*, those samples",
    ]
    bright, dark = CachedFeatures(tiny_store), CachedFeatures(darkened_store)
    assert bright.identity_digest == dark.identity_digest
    assert bright.sources_digest != dark.sources_digest


def test_an_unfinished_store_is_not_resumed_from_another_root(
    darkened_root: Path, synthetic_root: Path, unfinished_store: Path
) -> None:
    before = contents(unfinished_store)
    assert extract(darkened_root, unfinished_store) == 1
    assert contents(unfinished_store) == before
    assert extract(synthetic_root, unfinished_store) == 0
    assert contents(unfinished_store) != before


@pytest.mark.parametrize("more", [[], ["--variants", "2"]], ids=["repeated", "extended"])
def test_a_finished_store_is_not_continued_from_another_root(
    more: list[str],
    darkened_root: Path,
    bright_store: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = contents(bright_store)
    assert extract(darkened_root, bright_store, *more) == 1
    message, rows = capsys.readouterr().err, SAMPLES
    assert f"made from other sensor files than those in {darkened_root}" in message
    assert f"of {rows} finished rows whose files were read again, these differ" in message
    assert f"camera of {rows} rows: {darkened_root}/samples/CAM_FRONT/" in message
    assert "has SHA-256" in message
    assert "lidar of" not in message
    assert "different --store. Nothing was changed." in message
    assert contents(bright_store) == before


def test_verify_names_the_images_and_exits_with_1(
    darkened_root: Path, tiny_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["verify", str(tiny_store), "--nuscenes", str(darkened_root)]
    assert feature_cache(command) == 1
    line, last = capsys.readouterr().out.splitlines()
    assert f"camera files of 3 of 3 samples, variant 0, shard 0: {6 * SAMPLES} of 18" in line
    assert f"{darkened_root}/samples/CAM_FRONT/" in line
    assert line.count("has SHA-256") == 3
    assert last.endswith("sensor files were read again: differences: 1")


def test_the_same_bytes_elsewhere_are_accepted_everywhere(
    copied_root: Path, bright_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert feature_cache(["verify", str(bright_store), "--nuscenes", str(copied_root)]) == 0
    assert extract(copied_root, bright_store) == 0
    assert extract(copied_root, tmp_path / "second.zarr") == 0
    capsys.readouterr()
    assert feature_cache(["diff", str(bright_store), str(tmp_path / "second.zarr")]) == 0
    assert capsys.readouterr().out == "no difference in what determines the features\n"
    digest = CachedFeatures(bright_store).sources_digest
    assert extract(copied_root, bright_store, "--variants", "2") == 0
    assert CachedFeatures(bright_store).sources_digest == digest  # variants are of the same files
    for shard in open_store(bright_store).all_shards:
        assert open_store(bright_store).ledger.read(shard).sources is not None
    assert feature_cache(["verify", str(bright_store), "--nuscenes", str(copied_root)]) == 0


def test_one_changed_sweep_is_named_wherever_it_is_looked_for(
    copied_root: Path, bright_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = read_tables(copied_root, VERSION, SPLIT)[1]
    sweep = record.sweeps[-1].file
    points = sweep.read_bytes()
    sweep.unlink()
    sweep.write_bytes(points[:-20])
    assert feature_cache(["verify", str(bright_store), "--nuscenes", str(copied_root)]) == 1
    printed = capsys.readouterr().out
    assert f"are not those that were extracted: {sweep} has SHA-256" in printed
    assert "camera files" not in printed

    assert extract(copied_root, bright_store) == 1
    assert f"rows: {sweep} has SHA-256" in capsys.readouterr().err
    assert extract(copied_root, tmp_path / "second.zarr") == 0
    assert feature_cache(["diff", str(bright_store), str(tmp_path / "second.zarr")]) == 1
    assert "same tables, other sensor files: camera of 0 of 3 samples, lidar of " in (
        capsys.readouterr().out
    )


def test_a_missing_file_is_said_to_be_missing(
    copied_root: Path, bright_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = read_tables(copied_root, VERSION, SPLIT)[0].cameras[2].file
    image.unlink()
    before = contents(bright_store)
    assert extract(copied_root, bright_store) == 1
    assert f"camera of 1 rows: {image} is missing" in capsys.readouterr().err
    assert contents(bright_store) == before
    assert feature_cache(["verify", str(bright_store), "--nuscenes", str(copied_root)]) == 1
    assert f"{image} is missing" in capsys.readouterr().out


def test_a_run_records_the_files_of_its_store_and_is_not_resumed_on_others(
    bright_store: Path,
    darkened_store: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe = tmp_path / "recipes.py"
    recipe.write_text(
        "from dataclasses import replace\n"
        "from stage2_train.recipes.recipes import tiny_from_scratch\n"
        "def short():\n"
        "    return replace(tiny_from_scratch(), steps=1, epochs=None)\n"
    )
    run = ["--out", str(tmp_path / "run"), "--recipe", f"{recipe}:short"]
    assert train_stage2([str(bright_store), *run]) == 0
    saved = torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)
    assert saved["sources"] == CachedFeatures(bright_store).sources_digest
    assert train_stage2([str(bright_store), *run]) == 0
    assert train_stage2([str(darkened_store), *run]) == 1
    assert "holds a run with a different store" in capsys.readouterr().err
