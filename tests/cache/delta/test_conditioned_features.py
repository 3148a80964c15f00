"""Features of a base and a delta: every sensor of every sample is where the plan says."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cache.delta.delta_rows import part_arrays, row_token
from cache.delta.open_features import open_delta
from cache.format.quantise import quantise
from cache.reader import CachedFeatures
from shared.config.classes import CAMERAS, LIDAR
from shared.data.combined_variants import combined_img_from_lidar
from shared.data.features import MapValues, QuantisedMap
from shared.errors import MissingRowError
from tests.cache.delta.conftest import write_base
from tests.cache.delta.small_deltas import plan_of, row_maps, write_small_delta

# Cameras 0 and 2 and the LiDAR are touched; cow is as in the base but for camera 2.
LETTERS = {CAMERAS[0]: "ra.s.", CAMERAS[2]: "rr.sr", LIDAR: "rs.a."}


def made_row(
    base: CachedFeatures, token: str, sensor: str, variant: int = 0
) -> dict[str, np.ndarray]:
    """Return what the row of a sensor holds, before rounding."""
    arrays = part_arrays(base.store.metadata, "lidar" if sensor == LIDAR else "camera")
    return row_maps(arrays, row_token(token, sensor), variant)


def as_read(values: np.ndarray, like: MapValues) -> MapValues:
    rounded = values.astype(np.float16)
    return quantise(rounded) if isinstance(like, QuantisedMap) else rounded


def pieces(values: MapValues) -> tuple[np.ndarray, ...]:
    if isinstance(values, QuantisedMap):
        return values.values, values.scale, values.zero
    return (values,)


def view(values: MapValues, index: int | None) -> list[np.ndarray]:
    return [piece if index is None else piece[index] for piece in pieces(values)]


def check_maps(read: dict[str, MapValues], wanted: dict[str, Any], index: int | None) -> None:
    for name, values in wanted.items():
        for mine, theirs in zip(view(read[name], index), values, strict=True):
            np.testing.assert_array_equal(mine, theirs, err_msg=name)


@pytest.mark.parametrize("codec", ["zstd-1-shuffle", "uint8-zstd-1"])
def test_every_sensor_has_the_features_that_the_plan_says(tmp_path: Path, codec: str) -> None:
    base = write_base(tmp_path / "base.zarr", codec=codec)
    write_small_delta(tmp_path / "delta", base, plan_of(base, LETTERS))
    delta = open_delta(tmp_path / "delta", base)
    for place, token in enumerate(base.tokens):
        (clean,), (changed,) = base.read([token]), delta.read([token])
        (earlier,) = base.read([base.tokens[place - 1]])
        for sensor in (LIDAR, *CAMERAS):
            letter = LETTERS.get(sensor, ".....")[place]
            index = None if sensor == LIDAR else CAMERAS.index(sensor)
            names = [name for name in clean.maps if (index is None) == name.startswith("lidar/")]
            source = {".": clean.maps, "a": delta.null.maps, "s": earlier.maps}.get(letter)
            if source is None:
                made = made_row(base, token, sensor)
                wanted = {n: pieces(as_read(made[n], clean.maps[n])) for n in names}
            else:
                wanted = {n: view(source[n], index) for n in names}
            check_maps(dict(changed.maps), wanted, index)
        assert changed.frame.token == clean.frame.token
        np.testing.assert_array_equal(changed.frame.img_from_lidar, clean.frame.img_from_lidar)
        np.testing.assert_array_equal(
            changed.frame.annotations.boxes_lidar, clean.frame.annotations.boxes_lidar
        )


def test_variants_of_cameras_and_lidar_are_combined_as_in_the_base(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base.zarr", variants=3)
    plan = plan_of(base, {CAMERAS[1]: "rrrrr", LIDAR: "rrrrr"}, has_geometry=True)
    write_small_delta(tmp_path / "delta", base, plan)
    delta = open_delta(tmp_path / "delta", base)
    (clean,) = base.read(["dog"], 2, 1)
    (changed,) = delta.read(["dog"], 2, 1)
    view_row, lidar_row = made_row(base, "dog", CAMERAS[1], 1), made_row(base, "dog", LIDAR, 2)
    for name, values in view_row.items():
        np.testing.assert_array_equal(changed.maps[name][1], values.astype(np.float16))
        np.testing.assert_array_equal(changed.maps[name][2], clean.maps[name][2])
    for name, values in lidar_row.items():
        np.testing.assert_array_equal(changed.maps[name], values.astype(np.float16))
    of_lidar, of_cameras = base.frame("dog", 2), base.frame("dog", 1)
    wanted = combined_img_from_lidar(
        of_cameras.img_from_lidar * 2, of_cameras.ego_from_lidar, of_lidar.ego_from_lidar
    )
    np.testing.assert_array_equal(changed.frame.img_from_lidar, wanted)
    np.testing.assert_array_equal(
        changed.frame.annotations.boxes_lidar, of_lidar.annotations.boxes_lidar
    )


def test_projections_are_those_of_the_delta_and_boxes_those_of_the_base(
    base: CachedFeatures, tmp_path: Path
) -> None:
    write_small_delta(tmp_path / "delta", base, plan_of(base, {}, has_geometry=True))
    delta = open_delta(tmp_path / "delta", base)
    for token in base.tokens:
        clean, changed = base.frame(token), delta.frame(token)
        np.testing.assert_array_equal(changed.img_from_lidar, clean.img_from_lidar * 2)
        np.testing.assert_array_equal(changed.ego_from_lidar, clean.ego_from_lidar)
        np.testing.assert_array_equal(delta.labels(token), base.labels(token))
    (changed_maps,), (clean_maps,) = delta.read(["elk"]), base.read(["elk"])
    for name, values in clean_maps.maps.items():
        np.testing.assert_array_equal(changed_maps.maps[name], values)


def test_maps_that_the_delta_replaces_are_not_read_from_the_base(
    base: CachedFeatures, tmp_path: Path
) -> None:
    letters = dict.fromkeys((*CAMERAS, LIDAR), "rrrrr")
    write_small_delta(tmp_path / "delta", base, plan_of(base, letters))
    delta = open_delta(tmp_path / "delta", base)
    expected = delta.read(base.tokens)
    for folder in ("camera", "lidar"):
        for file in (tmp_path / "base.zarr" / folder).rglob("c.*"):
            file.unlink()
    again = delta.read(base.tokens)
    for mine, theirs in zip(again, expected, strict=True):
        for name, values in theirs.maps.items():
            np.testing.assert_array_equal(mine.maps[name], values)


def test_some_of_the_maps_can_be_read(base: CachedFeatures, tmp_path: Path) -> None:
    write_small_delta(tmp_path / "delta", base, plan_of(base, LETTERS))
    delta = open_delta(tmp_path / "delta", base)
    (whole,) = delta.read(["ant"])
    name = "lidar/stride8"
    maps = {name: np.zeros_like(whole.maps[name])}
    delta.read_into(maps, "ant")
    np.testing.assert_array_equal(maps[name], whole.maps[name])


def test_threads_and_other_processes_read_the_same(base: CachedFeatures, tmp_path: Path) -> None:
    write_small_delta(tmp_path / "delta", base, plan_of(base, LETTERS))
    delta = open_delta(tmp_path / "delta", base)
    expected = {token: delta.read([token])[0] for token in delta.tokens}
    again = pickle.loads(pickle.dumps(delta))
    with ThreadPoolExecutor(8) as pool:
        tokens = list(delta.tokens) * 20
        results = pool.map(lambda token: again.read([token]), tokens)
        for token, (sample,) in zip(tokens, results, strict=True):
            for name, values in expected[token].maps.items():
                np.testing.assert_array_equal(sample.maps[name], values)


def test_it_says_whose_features_it_has(base: CachedFeatures, tmp_path: Path) -> None:
    write_small_delta(tmp_path / "delta", base, plan_of(base, LETTERS))
    delta = open_delta(tmp_path / "delta", base)
    assert (delta.condition.name, delta.condition.severity) == ("shaken-2", 2)
    assert delta.features_digest == base.features_digest
    assert delta.identity_digest != base.identity_digest
    assert delta.identity["weights"] == base.identity["weights"]
    assert (delta.tokens, delta.scenes, delta.variants) == (base.tokens, base.scenes, 1)
    delta.require_complete()


def test_a_sample_that_the_base_lacks_is_missing(base: CachedFeatures, tmp_path: Path) -> None:
    write_small_delta(tmp_path / "delta", base, plan_of(base, LETTERS))
    delta = open_delta(tmp_path / "delta", base)
    with pytest.raises(MissingRowError, match="sample fox"):
        delta.read(["fox"])
    with pytest.raises(MissingRowError, match="variant 1"):
        delta.read(["ant"], 0, 1)
