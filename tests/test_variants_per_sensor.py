"""Variants of images and LiDAR are combined: as live extraction would, and in training by default.

K stored variants give K x K samples.
"""

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cache.reader import CachedFeatures
from shared.data.features import FrameFeatures
from stage1_extract.__main__ import main as extract_features
from stage1_extract.backbones.live import LiveFeatures
from stage1_extract.backbones.weights import frozen_backbones
from stage1_extract.check_parity import main as check_parity
from stage1_extract.extraction.extraction_identity import draws_of
from stage1_extract.nuscenes.nuscenes_tables import read_tables
from stage1_extract.parity.compare_sources import Extent, compare_sources
from stage1_extract.parity.frame_bits import combined_frames_differences
from stage1_extract.parity.map_distance import map_differences
from stage2_train.recipes.recipes import first_steps
from stage2_train.training.build import train, training_order

K = 3
PROJECTIONS = "projections of combined variants"
LIDAR_ONLY = """
from dataclasses import replace
from shared.config.preset_catalogue import tiny

def lidar_only():
    return replace(tiny(), name="lidar_only", camera=None)
"""

Read = Callable[[Sequence[str], int, int], list[FrameFeatures]]


def extract(root: Path, store: Path, variants: int, preset: str = "tiny") -> CachedFeatures:
    where = ["--nuscenes", str(root), "--version", "v1.0-mini", "--split", "mini_train"]
    more = ["--store", str(store), "--variants", str(variants)]
    assert extract_features([preset, *where, *more]) == 0
    return CachedFeatures(store)


@pytest.fixture(scope="module")
def store(synthetic_root: Path, tmp_path_factory: pytest.TempPathFactory) -> CachedFeatures:
    return extract(synthetic_root, tmp_path_factory.mktemp("stores") / "three.zarr", K)


@pytest.fixture(scope="module")
def live(synthetic_root: Path, store: CachedFeatures) -> LiveFeatures:
    records = read_tables(synthetic_root, "v1.0-mini", "mini_train")
    draws = draws_of(store.preset, store.variants)
    return LiveFeatures(records, frozen_backbones(store.preset, None)[0], draws)


def test_every_combination_is_what_the_backbones_make_of_the_combined_sample(
    store: CachedFeatures, live: LiveFeatures
) -> None:
    projections = set()
    for lidar, camera in itertools.product(range(K), repeat=2):
        for token in store.tokens:
            ours, theirs = (s.read([token], lidar, camera) for s in (live, store))
            maps = {item.quantity: item.value for item in map_differences(ours, theirs)}
            assert {v for name, v in maps.items() if name.endswith("that differ")} == {0}
            frames = {d.quantity: d for d in combined_frames_differences(ours, theirs)}
            assert frames["geometry and annotations"].value == 0  # not a bit of any other field
            assert frames[PROJECTIONS].value < 1e-14
            projections.add(theirs[0].frame.img_from_lidar.tobytes())
    assert len(projections) == K * K * len(store.tokens)


def test_check_parity_compares_combinations(
    store: CachedFeatures, synthetic_root: Path, tmp_path: Path
) -> None:
    out = tmp_path / "parity.json"
    command = [str(store.path), "--nuscenes", str(synthetic_root), "--samples", "2"]
    assert check_parity([*command, "--detector-samples", "0", "--json", str(out)]) == 0
    rows = {row["quantity"]: row for row in json.loads(out.read_text())["rows"]}
    assert rows[PROJECTIONS]["difference"] < rows[PROJECTIONS]["allowed"] == 1e-12


class Reading(CachedFeatures):
    """A store that reads combined samples in another way."""

    def __init__(self, like: CachedFeatures, combine: Read) -> None:
        super().__init__(like.path)
        self.combine = combine

    def read(
        self, tokens: Sequence[str], variant: int = 0, camera_variant: int | None = None
    ) -> list[FrameFeatures]:
        if camera_variant is None:
            return super().read(tokens, variant)
        return self.combine(tokens, variant, camera_variant)


def refused(live: LiveFeatures, store: CachedFeatures, combine: Read) -> set[str]:
    """Return the quantities outside their tolerance."""
    extent = Extent(rows=1, detector_samples=0, variants=K, exact_at=(1, 2))
    rows = compare_sources(live, Reading(store, combine), extent)
    return {row.quantity for row in rows if not row.passed}


def test_parity_refuses_what_is_combined_wrongly(store: CachedFeatures, live: LiveFeatures) -> None:
    def honest(tokens: Sequence[str], lidar: int, camera: int) -> list[FrameFeatures]:
        return store.read(tokens, lidar, camera)

    def not_composed(tokens: Sequence[str], lidar: int, camera: int) -> list[FrameFeatures]:
        frames = honest(tokens, lidar, camera)
        rows = store.read(tokens, camera)
        return [
            replace(a, frame=replace(a.frame, img_from_lidar=b.frame.img_from_lidar))
            for a, b in zip(frames, rows, strict=True)
        ]

    def not_combined(tokens: Sequence[str], lidar: int, _: int) -> list[FrameFeatures]:
        return store.read(tokens, lidar)

    def swapped(tokens: Sequence[str], lidar: int, camera: int) -> list[FrameFeatures]:
        return store.read(tokens, camera, lidar)

    def off(tokens: Sequence[str], lidar: int, camera: int) -> list[FrameFeatures]:
        frames = honest(tokens, lidar, camera)
        moved = (sample.frame.img_from_lidar * (1 + 1e-11) for sample in frames)
        return [
            replace(a, frame=replace(a.frame, img_from_lidar=matrices))
            for a, matrices in zip(frames, moved, strict=True)
        ]

    assert refused(live, store, honest) == set()
    assert refused(live, store, not_composed) == {PROJECTIONS}
    assert refused(live, store, off) == {PROJECTIONS}
    assert {"camera/stride16, mean", PROJECTIONS} <= refused(live, store, not_combined)
    wrong = refused(live, store, swapped)
    assert {"camera/stride16, mean", "lidar/stride8, mean", "geometry and annotations"} <= wrong


def log_of(store: CachedFeatures, out: Path, *, per_sensor: bool) -> bytes:
    train(store, replace(first_steps(), variants_per_sensor=per_sensor), out, stop_after=3)
    return (out / "log.csv").read_bytes()


def test_training_combines_variants_by_default(store: CachedFeatures, tmp_path: Path) -> None:
    assert first_steps().variants_per_sensor
    places = training_order(store, first_steps()).epoch(0)
    assert {place.camera_variant for place in places} <= set(range(K))
    logs = [log_of(store, tmp_path / str(on), per_sensor=on) for on in (False, True)]
    assert logs[0] != logs[1]


def test_a_store_of_a_single_variant_is_trained_on_with_the_same_bits(
    tiny_store: Path, tmp_path: Path
) -> None:
    store = CachedFeatures(tiny_store)
    logs = [log_of(store, tmp_path / str(on), per_sensor=on) for on in (False, True)]
    assert logs[0] == logs[1]


def test_a_lidar_alone_has_nothing_to_combine(synthetic_root: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(LIDAR_ONLY)
    preset = f"{file}:lidar_only"
    store = extract(synthetic_root, tmp_path / "lidar.zarr", variants=2, preset=preset)
    assert {p.camera_variant for p in training_order(store, first_steps()).epoch(0)} == {None}
    (row,), (combined,) = store.read(store.tokens[:1], 1), store.read(store.tokens[:1], 1, 0)
    for name, values in row.maps.items():
        np.testing.assert_array_equal(values, combined.maps[name])
    command = [str(store.path), "--nuscenes", str(synthetic_root), "--samples", "2"]
    assert check_parity([*command, "--detector-samples", "0"]) == 0


def test_images_alone_are_combined_with_other_boxes(synthetic_root: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(LIDAR_ONLY.replace("lidar_only", "cameras_only").replace("camera=", "lidar="))
    preset = f"{file}:cameras_only"
    store = extract(synthetic_root, tmp_path / "cameras.zarr", variants=2, preset=preset)
    (zero,), (first,) = (store.read(store.tokens[:1], variant) for variant in (0, 1))
    (combined,) = store.read(store.tokens[:1], 1, 0)
    boxes = combined.frame.annotations.boxes_lidar
    np.testing.assert_array_equal(boxes, first.frame.annotations.boxes_lidar)
    for name, values in zero.maps.items():
        np.testing.assert_array_equal(values, combined.maps[name])
    assert not np.allclose(combined.frame.img_from_lidar, zero.frame.img_from_lidar)
    train(store, first_steps(), tmp_path / "run", stop_after=2)
