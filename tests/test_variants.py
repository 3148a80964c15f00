"""Variants are extracted, added and trained on, and the recorded frame stays what it was."""

import dataclasses
import itertools
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from cache.__main__ import main as feature_cache
from cache.coordination.store import open_store
from cache.reader import CachedFeatures
from shared.data.features import Frame, MapValues
from shared.data.targets import with_trainable_annotations
from stage1_extract.__main__ import main as extract_features
from stage1_extract.check_parity import main as check_parity
from stage2_train.__main__ import main as train_stage2
from stage2_train.data.dataset import StoreDataset
from stage2_train.data.sampler import Place
from stage2_train.evaluate import main as evaluate_stage2


def extract(root: Path, store: Path, *more: str) -> int:
    where = ["--nuscenes", str(root), "--version", "v1.0-mini", "--split", "mini_val"]
    return extract_features(["tiny", *where, "--store", str(store), *more])


@pytest.fixture(scope="module")
def three(synthetic_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("stores") / "three.zarr"
    assert extract(synthetic_root, store, "--variants", "3") == 0
    return store


@pytest.fixture(scope="module")
def single(synthetic_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same samples without augmented variants."""
    store = tmp_path_factory.mktemp("stores") / "single.zarr"
    assert extract(synthetic_root, store) == 0
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


def test_variant_0_is_the_same_as_in_a_store_without_variants(three: Path, single: Path) -> None:
    alone, several = CachedFeatures(single), CachedFeatures(three)
    assert alone.tokens == several.tokens
    for a, b in zip(alone.read(alone.tokens), several.read(alone.tokens), strict=True):
        assert a.maps.keys() == b.maps.keys()
        for name, values in a.maps.items():
            np.testing.assert_array_equal(values, b.maps[name])
        for field in dataclasses.fields(a.frame):
            if field.name != "annotations":
                np.testing.assert_array_equal(
                    getattr(a.frame, field.name), getattr(b.frame, field.name)
                )
        for field in dataclasses.fields(a.frame.annotations):
            np.testing.assert_array_equal(
                getattr(a.frame.annotations, field.name), getattr(b.frame.annotations, field.name)
            )


def pixels(frame: Frame, points_m: np.ndarray) -> np.ndarray:
    """Return u, v and depth of (n, 3) points in every camera."""
    projected = np.einsum(
        "vdc,nc->vnd", frame.img_from_lidar, np.column_stack([points_m, np.ones(len(points_m))])
    )
    return np.concatenate([projected[..., :2] / projected[..., 2:3], projected[..., 2:3]], axis=-1)


def test_variants_differ_in_features_boxes_and_matrices_alike(three: Path) -> None:
    store = CachedFeatures(three)
    for token in store.tokens:
        variants = [store.read([token], number)[0] for number in range(3)]
        boxes = [features.frame.annotations.boxes_lidar for features in variants]
        assert len({len(own) for own in boxes}) == 1
        assert len(boxes[0]) > 0
        for a, b in itertools.combinations(range(3), 2):
            for name, values in variants[a].maps.items():
                assert not np.array_equal(values, variants[b].maps[name]), name
            assert np.abs(boxes[a] - boxes[b])[:, :2].max() > 0.01
            frames = variants[a].frame, variants[b].frame
            for name in ("img_from_lidar", "ego_from_lidar"):
                matrices = [getattr(frame, name) for frame in frames]
                assert not np.allclose(*matrices), name
            # A box is at the same place in the world, and as deep in every camera.
            places, depths = [], []
            for frame, own in zip(frames, (boxes[a], boxes[b]), strict=True):
                centres = own[:, :3].astype(np.float64)
                homogeneous = np.column_stack([centres, np.ones(len(centres))])
                places.append(homogeneous @ frame.ego_from_lidar.T)
                depths.append(pixels(frame, centres)[..., 2])
            np.testing.assert_allclose(*places, atol=1e-4)
            np.testing.assert_allclose(*depths, atol=1e-4)
        for features in variants:
            trainable = with_trainable_annotations(features, store.preset.grid).frame.annotations
            assert np.isfinite(trainable.boxes_lidar).all()


def test_parity_holds_in_every_variant(
    three: Path, synthetic_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "parity.json"
    arguments = [str(three), "--nuscenes", str(synthetic_root), "--samples", "3"]
    assert check_parity([*arguments, "--json", str(out)]) == 0, capsys.readouterr()
    assert json.loads(out.read_text())["passed"] is True


@pytest.fixture
def variants_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The variant of every sample that training or evaluation reads."""
    honest, variants = StoreDataset.read, []

    def noting(self: StoreDataset, place: Place, maps: Mapping[str, MapValues]) -> Frame:
        variants.append(place.variant)
        return honest(self, place, maps)

    monkeypatch.setattr(StoreDataset, "read", noting)
    return variants


def test_variants_are_trained_on_and_evaluation_uses_variant_0(
    three: Path, single: Path, tmp_path: Path, variants_read: list[int]
) -> None:
    run = tmp_path / "run"
    train = [str(three), "--out", str(run), "--recipe", "first_steps", "--stop-after", "9"]
    assert train_stage2(train) == 0
    assert set(variants_read) == {0, 1, 2}

    variants_read.clear()
    results = []
    for store in (three, single):
        out = tmp_path / store.name
        assert evaluate_stage2([str(store), str(run), "--out", str(out)]) == 0
        results.append((out / "results_nusc.json").read_bytes())
    assert set(variants_read) == {0}
    assert results[0] == results[1]
    assert set(json.loads(results[0])["results"]) == set(CachedFeatures(three).tokens)
