"""What 8 bit means besides the bytes: identity, resuming, refusals and statistics."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from cache.__main__ import main
from cache.coordination.store import open_store
from cache.create import codec_at
from cache.format.codec import CODECS, DEFAULT_CODEC, FLOAT16
from cache.format.quantise import quantise
from cache.format.statistics import Statistics
from cache.reader import CachedFeatures
from shared.data.features import QuantisedMap, as_floats
from shared.errors import CacheError, IdentityError
from tests.cache.conftest import (
    fill,
    make_features,
    make_identity,
    make_writer,
    small_preset,
    with_map,
)
from tests.cache.verification.test_damage import rewrite_metadata

LOSSLESS = [codec.name for codec in CODECS.values() if codec.value_format == FLOAT16]
MAPS = [feature_map.name for feature_map in small_preset().maps]


@pytest.mark.parametrize("codec", LOSSLESS)
def test_a_lossless_codec_is_not_in_the_identity(codec: str) -> None:
    assert make_identity(codec=codec) == make_identity()


def test_resuming_with_a_different_lossless_codec_is_refused(begun: Path) -> None:
    assert codec_at(begun) == DEFAULT_CODEC
    with pytest.raises(
        CacheError, match=r"is coded as zstd-1-shuffle, but pcodec was asked for.*Leave out --codec"
    ):
        make_writer(begun, codec="pcodec")
    assert len(make_writer(begun).pending()) == 2


def test_a_float16_store_cannot_be_resumed_in_8_bit(begun: Path, tmp_path: Path) -> None:
    with pytest.raises(
        IdentityError,
        match=r"value_format: float16 in the store, uint8 per channel asked for \(.*--codec",
    ):
        make_writer(begun, codec="uint8-zstd-1")
    make_writer(tmp_path / "new", codec="uint8-zstd-1")
    assert codec_at(tmp_path / "new") == "uint8-zstd-1"
    assert codec_at(tmp_path / "nowhere") == DEFAULT_CODEC


def test_diff_explains_a_different_value_format(
    stores: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diff", str(stores["none"]), str(stores["pcodec"])]) == 0
    assert main(["diff", str(stores["none"]), str(stores["uint8-zstd-1"])]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 4
    assert "value_format: float16 in" in printed[1]
    assert "number format of the maps" in printed[1]


def test_features_of_a_different_value_format_may_be_evaluated(stores: dict[str, Path]) -> None:
    """This shows what 8 bit costs: train on 8 bit, evaluate on float16."""
    float16, uint8 = (CachedFeatures(stores[codec]) for codec in (DEFAULT_CODEC, "uint8-zstd-1"))
    assert float16.features_digest == uint8.features_digest
    assert float16.identity_digest != uint8.identity_digest


def test_a_store_of_a_codec_this_version_does_not_know_explains_itself(finished: Path) -> None:
    rewrite_metadata(finished, codec="uint4-zstd-9")
    with pytest.raises(
        CacheError, match=r"coded as uint4-zstd-9; this version.*reads zstd-1-shuffle, zstd-1"
    ):
        open_store(finished)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 7e4])
def test_a_value_without_a_finite_float16_is_refused_before_it_is_quantised(
    tmp_path: Path, bad: float
) -> None:
    writer = make_writer(tmp_path, codec="uint8-zstd-1")
    values = np.zeros((2, 4, 4), np.float32)
    values[1, 2, 3] = bad
    rows = [make_features("ant"), with_map(make_features("bee"), "lidar/stride8", values)]
    with pytest.raises(CacheError, match=r"lidar/stride8 of sample bee.*float16 ends at 65504"):
        writer.write_shard(writer.pending()[0], rows)
    assert len(writer.pending()) == 3


def test_features_that_are_quantised_already_are_refused(
    stores: dict[str, Path], tmp_path: Path
) -> None:
    """Rounding twice would be more than half a step off."""
    rows = CachedFeatures(stores["uint8-zstd-1"]).read(["ant", "bee"])
    for codec in (DEFAULT_CODEC, "uint8-zstd-1"):
        writer = make_writer(tmp_path / codec, codec=codec)
        with pytest.raises(CacheError, match=r"camera/stride16 of sample ant.*in 8 bit already"):
            writer.write_shard(writer.pending()[0], rows)


@pytest.mark.parametrize("case", ["normal", "constant", "an outlier in every plane"])
def test_statistics_from_sums_are_those_of_the_dequantised_values(case: str) -> None:
    values = np.random.default_rng(0).standard_normal((6, 8, 20, 50)).astype(np.float16)
    if case == "constant":
        values[:] = 0.7
    if case == "an outlier in every plane":
        values[..., 3, 4] = 3000
    quantised = quantise(values)
    expected = asdict(Statistics.of(quantised.dequantised()))
    tolerance = 1e-6 * expected["absmax"]
    assert asdict(Statistics.of_quantised(quantised)) == pytest.approx(expected, abs=tolerance)


def test_statistics_are_of_the_dequantised_values(stores: dict[str, Path]) -> None:
    store = open_store(stores["uint8-zstd-1"])
    statistics = store.ledger.read(0).statistics
    assert list(statistics) == MAPS
    rows = CachedFeatures(stores["uint8-zstd-1"]).read(["ant", "bee"])
    values = np.stack([as_floats(row.maps["lidar/stride8"]) for row in rows]).astype(np.float64)
    recorded = statistics["lidar/stride8"]
    assert (recorded.count, recorded.min, recorded.max) == (64, values.min(), values.max())
    assert recorded.mean == pytest.approx(values.mean())
    assert recorded.std == pytest.approx(values.std())


def test_a_scale_that_is_not_finite_is_found_by_verify(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Statistics of such values cannot be written: a writer of ours never gets that far."""
    none = Statistics(count=1, min=0, max=0, mean=0, std=0, absmax=0)

    def broken(values: np.ndarray) -> QuantisedMap:
        quantised = quantise(values)
        return replace(quantised, scale=quantised.scale * np.float32(np.nan))

    monkeypatch.setattr("cache.format.row_codec.quantise", broken)
    monkeypatch.setattr("cache.encoded_row.Statistics.of_quantised", lambda _: none)
    fill(make_writer(tmp_path, codec="uint8-zstd-1"))
    assert main(["verify", str(tmp_path)]) == 1
    assert "lidar/stride8_scale of all 2 samples from ant on" in capsys.readouterr().out
