"""Variants are extracted, added and trained on, and the recorded frame stays what it was."""

import json
from pathlib import Path

import numpy as np
import pytest

from cache.__main__ import main as feature_cache
from cache.coordination.store import open_store
from cache.reader import CachedFeatures
from shared.data.targets import with_trainable_annotations
from stage1_extract.__main__ import main as extract_features
from stage1_extract.check_parity import main as check_parity
from stage2_train.__main__ import main as train_stage2
from stage2_train.evaluate import main as evaluate_stage2


def extract(root: Path, store: Path, *more: str) -> int:
    where = ["--nuscenes", str(root), "--version", "v1.0-mini", "--split", "mini_val"]
    return extract_features(["tiny", *where, "--store", str(store), *more])


@pytest.fixture(scope="module")
def three(synthetic_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("stores") / "three.zarr"
    assert extract(synthetic_root, store, "--variants", "3") == 0
    return store


def digest(store: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert feature_cache(["digest", str(store), "--recompute"]) == 0
    return capsys.readouterr().out.strip()


def test_a_store_grows_variant_by_variant_and_computes_only_the_new_ones(
    synthetic_root: Path, three: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "grown.zarr"
    assert extract(synthetic_root, store) == 0
    before = {file: file.stat().st_mtime_ns for file in store.rglob("c.0.*")}
    first = open_store(store).ledger.complete()

    assert extract(synthetic_root, store, "--variants", "2") == 0
    assert len(open_store(store).ledger.complete()) == 2 * len(first)
    assert extract(synthetic_root, store, "--variants", "3") == 0

    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert feature_cache(["verify", str(store)]) == 0
    assert CachedFeatures(store).identity == CachedFeatures(three).identity
    assert digest(store, capsys) == digest(three, capsys)


def test_resuming_needs_no_number_of_variants_and_a_smaller_number_is_refused(
    synthetic_root: Path, three: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = digest(three, capsys)
    assert extract(synthetic_root, three) == 0
    assert extract(synthetic_root, three, "--variants", "2") == 1
    assert "never taken away" in capsys.readouterr().err
    assert digest(three, capsys) == before


def test_a_stale_store_is_not_grown(
    synthetic_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "one.zarr"
    assert extract(synthetic_root, store) == 0
    before = (store / "zarr.json").read_bytes()
    assert extract(synthetic_root, store, "--cut", "neck", "--variants", "2") == 1
    assert "cut" in capsys.readouterr().err
    assert (store / "zarr.json").read_bytes() == before


def test_variant_0_is_the_same_as_in_a_store_without_variants(
    synthetic_root: Path, three: Path, tmp_path: Path
) -> None:
    assert extract(synthetic_root, tmp_path / "one.zarr") == 0
    single, several = CachedFeatures(tmp_path / "one.zarr"), CachedFeatures(three)
    for a, b in zip(single.read(single.tokens), several.read(single.tokens), strict=True):
        for name, values in a.maps.items():
            np.testing.assert_array_equal(values, b.maps[name])


def test_variants_differ_in_features_boxes_and_matrices_alike(three: Path) -> None:
    store = CachedFeatures(three)
    token = store.tokens[0]
    recorded, *variants = (store.read([token], number)[0] for number in range(3))
    for variant in variants:
        for name in ("lidar/stride8", "camera/stride16"):
            assert not np.array_equal(recorded.maps[name], variant.maps[name])
        # A box is at the same place in the world.
        frames = recorded.frame, variant.frame
        assert len({len(frame.annotations.boxes_lidar) for frame in frames}) == 1
        places = [
            frame.ego_from_lidar
            @ np.append(frame.annotations.boxes_lidar[0, :3].astype(np.float64), 1)
            for frame in frames
        ]
        np.testing.assert_allclose(places[0], places[1], atol=1e-4)
        trainable = with_trainable_annotations(variant, store.preset.grid).frame.annotations
        assert np.isfinite(trainable.boxes_lidar).all()


def test_parity_holds_in_every_variant(
    three: Path, synthetic_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "parity.json"
    arguments = [str(three), "--nuscenes", str(synthetic_root), "--samples", "3"]
    assert check_parity([*arguments, "--json", str(out)]) == 0, capsys.readouterr()
    assert json.loads(out.read_text())["passed"] is True


def test_variants_are_trained_on_and_evaluation_uses_variant_0(three: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train = [str(three), "--out", str(run), "--recipe", "first_steps", "--stop-after", "3"]
    assert train_stage2(train) == 0
    assert evaluate_stage2([str(three), str(run), "--out", str(run / "val")]) == 0
    results = json.loads((run / "val" / "results_nusc.json").read_text())["results"]
    assert set(results) == set(CachedFeatures(three).tokens)
