"""A store in 8 bit is extracted, checked against the live backbones, and plotted like any other."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cache.reader import CachedFeatures
from shared.config.preset_catalogue import tiny
from shared.data.features import FrameFeatures, QuantisedMap, as_floats
from stage1_extract.__main__ import main as extract_features
from stage1_extract.backbones.live import LiveFeatures
from stage1_extract.backbones.weights import frozen_backbones
from stage1_extract.check_parity import main as check_parity_command
from stage1_extract.nuscenes.nuscenes_tables import read_tables
from stage1_extract.parity.compare_sources import Extent, compare_sources
from stage1_extract.parity.map_distance import map_distance
from stage1_extract.plots.plot_features import plot_features
from tests.pictures import decoded
from tests.stage1_extract.parity.test_parity import Changed

MAPS = [spec.name for spec in tiny().maps]


@pytest.fixture(scope="module")
def store(tiny_store_8bit: Path) -> CachedFeatures:
    return CachedFeatures(tiny_store_8bit)


def options(root: Path, store: Path) -> list[str]:
    where = ["--nuscenes", str(root), "--version", "v1.0-mini", "--split", "mini_train"]
    return ["tiny", *where, "--store", str(store)]


def test_without_a_codec_a_store_is_resumed_and_a_different_codec_is_refused(
    tiny_store_8bit: Path, synthetic_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = options(synthetic_root, tiny_store_8bit)
    assert extract_features(command) == 0
    assert extract_features([*command, "--codec", "uint8-lz4-bitshuffle"]) == 1
    assert "is coded as uint8-zstd-1, but uint8-lz4" in capsys.readouterr().err
    assert extract_features([*command, "--codec", "pcodec"]) == 1
    assert "value_format: uint8 per channel in the store" in capsys.readouterr().err


def test_it_holds_what_a_float16_store_holds_within_half_a_step(
    store: CachedFeatures, tiny_store: Path
) -> None:
    for exact, rounded in zip(
        CachedFeatures(tiny_store).read(store.tokens), store.read(store.tokens), strict=True
    ):
        np.testing.assert_array_equal(exact.frame.img_from_lidar, rounded.frame.img_from_lidar)
        for name in MAPS:
            assert isinstance(rounded.maps[name], QuantisedMap)
            distance = map_distance(as_floats(exact.maps[name]), rounded.maps[name])
            assert distance.differing == 0
            assert distance.largest <= 0.5 * (1 + 2**-10)  # float32 rounds up to 255 steps


def test_parity_holds_and_names_its_unit(
    tiny_store_8bit: Path, synthetic_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "parity.json"
    command = [str(tiny_store_8bit), "--nuscenes", str(synthetic_root), "--json", str(out)]

    assert check_parity_command(command) == 0, capsys.readouterr().err

    document = json.loads(out.read_text())
    rows = {row["quantity"]: row for row in document["rows"] if row["batch_size"] == 1}
    for name in MAPS:
        assert 0.4 < rows[name]["difference"] < 1
        assert rows[name]["unit"] == rows[f"{name}, mean"]["unit"] == "8-bit steps"
        differing = rows[f"{name}, values that differ"]
        assert (differing["difference"], differing["allowed"]) == (0, 0)
    assert rows["geometry and annotations"]["difference"] == 0


Edit = Callable[[QuantisedMap], QuantisedMap]


def one_level_up(values: QuantisedMap) -> QuantisedMap:
    levels = values.values.copy()
    levels[..., 0, 0] += levels[..., 0, 0] < 255
    return dataclasses.replace(values, values=levels)


@pytest.mark.parametrize(
    "edit",
    [
        one_level_up,
        lambda values: dataclasses.replace(values, scale=values.scale * np.float32(1.01)),
        lambda values: dataclasses.replace(values, zero=values.zero + values.scale),
        lambda values: dataclasses.replace(values, zero=values.zero + np.float32(np.nan)),
    ],
    ids=["one level", "scale", "zero point", "NaN"],
)
@pytest.mark.parametrize("name", ["camera/stride32", "lidar/stride8"])
def test_a_changed_store_fails(
    store: CachedFeatures, synthetic_root: Path, edit: Edit, name: str
) -> None:
    def change(frame: FrameFeatures) -> FrameFeatures:
        values = frame.maps[name]
        assert isinstance(values, QuantisedMap)
        return dataclasses.replace(frame, maps={**frame.maps, name: edit(values)})

    (live,) = live_features(synthetic_root, store).read(store.tokens[:1])
    (changed,) = Changed(store, change).read(store.tokens[:1])

    assert map_distance(live.maps[name], changed.maps[name]).differing != 0  # NaN is not 0 either


def live_features(root: Path, store: CachedFeatures) -> LiveFeatures:
    records = read_tables(root, "v1.0-mini", "mini_train")
    return LiveFeatures(records, frozen_backbones(store.preset, None)[0])


def test_noise_of_several_steps_fails_downstream_too(
    store: CachedFeatures, synthetic_root: Path
) -> None:
    def change(frame: FrameFeatures) -> FrameFeatures:
        random = np.random.default_rng(0)
        maps = {}
        for name, values in frame.maps.items():
            assert isinstance(values, QuantisedMap)
            levels = values.values + random.normal(0, 60, values.values.shape)
            maps[name] = dataclasses.replace(values, values=levels.clip(0, 255).astype(np.uint8))
        return dataclasses.replace(frame, maps=maps)

    live = live_features(synthetic_root, store)
    rows = compare_sources(live, Changed(store, change), Extent(rows=1))

    kinds = {row.quantity.split(" ")[0] for row in rows if not row.passed}
    assert {"output", "loss", "gradient", *MAPS} <= kinds


def test_in_a_constant_plane_a_step_is_that_of_float16() -> None:
    cached = QuantisedMap(
        values=np.zeros((1, 1, 1), np.uint8),
        scale=np.zeros(1, np.float32),
        zero=np.ones(1, np.float32),
    )
    assert map_distance(np.ones((1, 1, 1), np.float32), cached).largest == 0
    assert map_distance(np.full((1, 1, 1), 1 + 2**-8, np.float32), cached).largest == 4


def test_its_features_can_be_plotted(store: CachedFeatures, tmp_path: Path) -> None:
    (features,) = store.read(store.tokens[:1])
    plot_features(features, tmp_path / "features.png")
    assert decoded(tmp_path / "features.png").std() > 10
