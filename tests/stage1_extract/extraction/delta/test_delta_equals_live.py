"""Base and delta together are what extracting everything under the condition gives, bit for bit."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from cache.coordination.store import open_store
from cache.delta.delta_plan import ROW
from cache.delta.open_features import open_delta
from cache.reader import CachedFeatures
from shared.config.classes import CAMERAS, LIDAR
from shared.data.features import FrameFeatures, MapValues, QuantisedMap
from stage1_extract.__main__ import main as extract_features
from stage1_extract.backbones.live import LiveFeatures
from stage1_extract.backbones.weights import frozen_backbones
from stage1_extract.extraction.extraction_identity import draws_of
from stage1_extract.nuscenes.nuscenes_tables import read_tables
from stage1_extract.nuscenes.records import SampleRecord
from stage1_extract.parity.map_distance import as_stored
from stage1_extract.preprocessing.conditioned_input import ConditionedInput
from stage1_extract.preprocessing.raw_frames import RawFrames
from tests.stage1_extract.extraction.delta.conftest import OWN

Extract = Callable[[Path, str], Path]
KEPT_RINGS = (1, 9, 17, 25)  # of beams-4-even, as MultiCorrupt has them


def records_of(root: Path) -> list[SampleRecord]:
    return read_tables(root, "v1.0-mini", "mini_train")


def live_under(root: Path, base: CachedFeatures, condition: str) -> LiveFeatures:
    """Return live features of all samples under a condition, both branches, all six views."""
    records = records_of(root)
    ref = f"{OWN}:{condition}" if condition == "mixed" else condition
    frozen, _ = frozen_backbones(base.preset, None)
    draws = draws_of(base.preset, base.variants)
    raw = RawFrames(records, base.preset, draws, ConditionedInput(ref, records))
    return LiveFeatures(records, frozen, draws, raw)


def arrays(values: MapValues) -> tuple[np.ndarray, ...]:
    if isinstance(values, QuantisedMap):
        return values.values, values.scale, values.zero
    return (values,)


def assert_bits_equal(stored: FrameFeatures, live: FrameFeatures) -> None:
    for name, values in stored.maps.items():
        for mine, theirs in zip(
            arrays(values), arrays(as_stored(live.maps[name], values)), strict=True
        ):
            assert mine.tobytes() == theirs.tobytes(), name
    assert stored.frame.img_from_lidar.tobytes() == live.frame.img_from_lidar.tobytes()
    assert stored.frame.timestamp_us == live.frame.timestamp_us
    np.testing.assert_array_equal(
        stored.frame.annotations.boxes_lidar, live.frame.annotations.boxes_lidar
    )


@pytest.mark.parametrize("condition", ["mixed", "beams-4-even", "occlusion", "haze-ours-2"])
def test_base_and_delta_are_the_live_features_under_the_condition(
    extracted: Extract, synthetic_root: Path, tiny_store: Path, condition: str
) -> None:
    base = CachedFeatures(tiny_store)
    delta = open_delta(extracted(tiny_store, condition), base)
    live = live_under(synthetic_root, base, condition)
    for token in base.tokens:
        (stored,), (computed,) = delta.read([token]), live.read([token])
        assert_bits_equal(stored, computed)


def test_so_they_are_in_8_bit(
    extracted: Extract, synthetic_root: Path, tiny_store_8bit: Path
) -> None:
    base = CachedFeatures(tiny_store_8bit)
    delta = open_delta(extracted(tiny_store_8bit, "mixed"), base)
    live = live_under(synthetic_root, base, "mixed")
    for token in base.tokens:
        (stored,), (computed,) = delta.read([token]), live.read([token])
        assert_bits_equal(stored, computed)


@pytest.fixture(scope="module")
def wide_store(synthetic_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The training scene in three variants."""
    store = tmp_path_factory.mktemp("wide") / "wide.zarr"
    where = ["--nuscenes", str(synthetic_root), "--version", "v1.0-mini", "--split", "mini_train"]
    assert extract_features(["tiny", *where, "--store", str(store), "--variants", "3"]) == 0
    return store


def test_so_they_are_in_augmented_variants(
    extracted: Extract, synthetic_root: Path, wide_store: Path
) -> None:
    base = CachedFeatures(wide_store)
    delta = open_delta(extracted(wide_store, "mixed"), base)
    live = live_under(synthetic_root, base, "mixed")
    for variant in range(3):
        for token in base.tokens:
            (stored,), (computed,) = delta.read([token], variant), live.read([token], variant)
            assert_bits_equal(stored, computed)
    third = base.tokens[2]
    (stored,), (computed,) = delta.read([third], 2, 1), live.read([third], 2, 1)
    for name, values in stored.maps.items():
        assert values.tobytes() == as_stored(computed.maps[name], values).tobytes()  # type: ignore[union-attr]
    np.testing.assert_allclose(
        stored.frame.img_from_lidar, computed.frame.img_from_lidar, rtol=0, atol=1e-9
    )


def test_a_stuck_sensor_is_a_row_only_where_its_augmentation_differs(
    extracted: Extract, tiny_store: Path, wide_store: Path
) -> None:
    narrow = open_delta(extracted(tiny_store, "mixed"), CachedFeatures(tiny_store))
    wide = open_delta(extracted(wide_store, "mixed"), CachedFeatures(wide_store))
    assert narrow.metadata.plan.letter(LIDAR, 1) == "s"
    assert wide.metadata.plan.letter(LIDAR, 1) == ROW


def test_only_what_changes_is_stored(extracted: Extract, tiny_store: Path) -> None:
    delta = extracted(tiny_store, "mixed")
    tokens = CachedFeatures(tiny_store).tokens
    assert list(open_store(delta / "lidar").samples.tokens) == [tokens[0]]
    assert list(open_store(delta / "camera").samples.tokens) == [
        f"{tokens[0]}/{CAMERAS[0]}",
        f"{tokens[1]}/{CAMERAS[2]}",
        f"{tokens[1]}/{CAMERAS[5]}",
        f"{tokens[2]}/{CAMERAS[4]}",
    ]
    assert list(open_store(delta / "geometry").samples.tokens) == list(tokens)
    beams = extracted(tiny_store, "beams-4-even")
    assert sorted(path.name for path in beams.iterdir()) == ["delta.json", "lidar"]


def test_a_row_names_the_files_that_it_was_made_from(
    extracted: Extract, synthetic_root: Path, tiny_store: Path
) -> None:
    delta, records = extracted(tiny_store, "mixed"), records_of(synthetic_root)
    entry = open_store(delta / "camera").ledger.read(0)
    assert entry.sources is not None
    files = [
        record.cameras[view].file
        for record, view in zip(
            [records[0], records[1], records[1], records[2]], (0, 2, 5, 4), strict=True
        )
    ]
    for row, file in zip(entry.sources.unpacked(), files, strict=True):
        (source,) = row["camera"]
        assert source.name == records[0].relative(file)
        assert hashlib.sha256(file.read_bytes()).hexdigest().startswith(source.digest)


@pytest.fixture
def changed_root(synthetic_root: Path, tmp_path: Path) -> Path:
    """A copy of the synthetic set whose sensor files may be changed."""
    return shutil.copytree(synthetic_root, tmp_path / "nuscenes")


def extracted_from(root: Path, store: Path) -> CachedFeatures:
    where = ["--nuscenes", str(root), "--version", "v1.0-mini", "--split", "mini_train"]
    assert extract_features(["tiny", *where, "--store", str(store)]) == 0
    return CachedFeatures(store)


def assert_same_maps(delta: Path, base: Path, full: CachedFeatures) -> None:
    features = open_delta(delta, CachedFeatures(base))
    for token in full.tokens:
        (stored,), (wanted,) = features.read([token]), full.read([token])
        for name, values in wanted.maps.items():
            assert values.tobytes() == stored.maps[name].tobytes(), name  # type: ignore[union-attr]


def test_fewer_beams_are_what_a_store_of_files_with_fewer_beams_has(
    extracted: Extract, tiny_store: Path, changed_root: Path, tmp_path: Path
) -> None:
    for file in changed_root.rglob("LIDAR_TOP/*.bin"):
        points = np.fromfile(file, "<f4").reshape(-1, 5)
        points[np.isin(points[:, 4], KEPT_RINGS)].tofile(file)
    full = extracted_from(changed_root, tmp_path / "full.zarr")
    assert_same_maps(extracted(tiny_store, "beams-4-even"), tiny_store, full)


def test_a_missing_camera_is_what_a_store_of_black_images_has(
    extracted: Extract, tiny_store: Path, changed_root: Path, tmp_path: Path
) -> None:
    for file in (changed_root / "samples/CAM_BACK").iterdir():
        cv2.imwrite(str(file), np.zeros((900, 1600, 3), np.uint8))
    full = extracted_from(changed_root, tmp_path / "full.zarr")
    assert_same_maps(extracted(tiny_store, "missing-cam-back"), tiny_store, full)


def test_a_stuck_camera_is_what_a_store_of_an_earlier_image_has(
    extracted: Extract, tiny_store: Path, changed_root: Path, tmp_path: Path
) -> None:
    _, second, third = records_of(changed_root)
    shutil.copy(second.cameras[0].file, third.cameras[0].file)
    full = extracted_from(changed_root, tmp_path / "full.zarr")
    delta = open_delta(
        extracted(tiny_store, "front_stuck_in_the_third_sample"), CachedFeatures(tiny_store)
    )
    (stuck,), (wanted,) = delta.read([third.token]), full.read([third.token])
    (earlier,) = full.read([second.token])
    for name, values in stuck.maps.items():
        same = earlier if name.startswith("lidar/") else wanted
        assert values.tobytes() == same.maps[name].tobytes(), name  # type: ignore[union-attr]
