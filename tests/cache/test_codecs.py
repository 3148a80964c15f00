"""Every codec gives back what was written, to us and to any Zarr reader, and notices damage."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr

from cache.__main__ import main
from cache.codec import CODECS, DEFAULT_CODEC, FLOAT16, UINT8, DamageError
from cache.create import codec_at
from cache.quantise import quantise
from cache.reader import CachedFeatures
from cache.schema import array_specs, scale_name, zero_name
from cache.shard_file import read_row_bytes
from cache.statistics import Statistics
from cache.store import open_store
from shared.errors import CacheError, IdentityError
from shared.features import QuantisedMap
from tests.cache.conftest import (
    TOKENS,
    fill,
    make_features,
    make_identity,
    make_writer,
    small_preset,
    with_map,
)
from tests.cache.test_damage import flip_bit, rewrite_metadata, shard_file

LOSSLESS = [one.name for one in CODECS.values() if one.storage == FLOAT16]
QUANTISED = [one.name for one in CODECS.values() if one.storage == UINT8]
MAPS = [one.name for one in small_preset().maps]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished store of every codec; tests must not write to it."""
    path = tmp_path_factory.mktemp("codecs")
    for codec in CODECS:
        fill(make_writer(path / codec, codec=codec))
    return {codec: path / codec for codec in CODECS}


def maps_of(path: Path, token: str) -> dict[str, np.ndarray | QuantisedMap]:
    (read,) = CachedFeatures(path).read([token])
    return dict(read.maps)


def test_the_codecs_are_these() -> None:
    """A store names its codec: taking a name away makes stores unreadable."""
    assert LOSSLESS == ["zstd-1", "none", "lz4-bitshuffle", "pcodec"]
    assert QUANTISED == ["uint8-zstd-1", "uint8-lz4-bitshuffle"]
    assert DEFAULT_CODEC == "zstd-1"


@pytest.mark.parametrize("codec", LOSSLESS)
def test_a_lossless_codec_gives_every_bit_back(stores: dict[str, Path], codec: str) -> None:
    for name, values in maps_of(stores[codec], "dog").items():
        assert values.dtype == np.float16
        np.testing.assert_array_equal(values, make_features("dog").maps[name].astype(np.float16))


@pytest.mark.parametrize("codec", QUANTISED)
def test_a_quantised_map_stays_in_8_bit_and_is_half_a_step_off_at_most(
    stores: dict[str, Path], codec: str
) -> None:
    maps = maps_of(stores[codec], "dog")
    assert list(maps) == MAPS
    for name, values in maps.items():
        written = make_features("dog").maps[name].astype(np.float16).astype(np.float64)
        assert isinstance(values, QuantisedMap)
        assert values.values.dtype == np.uint8
        assert values.scale.shape == values.zero.shape == written.shape[:-2]
        half_step = values.scale[..., None, None] / 2
        assert (np.abs(values.dequantised() - written) <= 1.001 * half_step).all()


@pytest.mark.parametrize("codec", CODECS)
def test_plain_zarr_reads_every_array(stores: dict[str, Path], codec: str) -> None:
    members = dict(zarr.open_group(stores[codec], mode="r").members(max_depth=None))
    for spec in array_specs(small_preset(), 3, codec):
        assert members[spec.name].shape == (1, len(TOKENS), *spec.shape)
        assert members[spec.name].dtype == spec.dtype
        assert members[spec.name].metadata.dimension_names == ("view", "sample", *spec.dims)
    for sample, token in enumerate(TOKENS):
        for name, ours in maps_of(stores[codec], token).items():
            theirs = members[name][0, sample]
            if isinstance(ours, QuantisedMap):
                formula = f"{zero_name(name)} + {scale_name(name)} * this, in float32"
                assert formula in members[name].attrs["about"]
                scale, zero = (members[f"{name}_{part}"][0, sample] for part in ("scale", "zero"))
                theirs = zero[..., None, None] + scale[..., None, None] * theirs
                ours = ours.dequantised()
            np.testing.assert_array_equal(theirs, ours)
    assert members["annotations/box_count"][0].tolist() == [0, 1, 2, 3, 0]


@pytest.mark.parametrize("codec", CODECS)
def test_what_plain_zarr_writes_can_be_read(tmp_path: Path, codec: str) -> None:
    make_writer(tmp_path / "store", codec=codec)
    dtype = "float16" if codec in LOSSLESS else "uint8"
    values = np.arange(2 * 32, dtype=dtype).reshape(1, 2, 2, 4, 4)
    zarr.open_array(tmp_path / "store/lidar/stride8", mode="r+")[0:1, 2:4] = values

    sealed = read_row_bytes(tmp_path / "store/lidar/stride8/c.0.1.0.0.0", slot=1, slots=2)

    decoded = CODECS[codec].decode_row(sealed, (2, 4, 4), dtype)
    np.testing.assert_array_equal(decoded, values[0, 1])


@pytest.mark.parametrize("codec", CODECS)
def test_verify_reads_a_store_of_every_codec(
    stores: dict[str, Path], codec: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(stores[codec])]) == 0
    assert main(["show", str(stores[codec])]) == 0
    assert f"codec       {codec}\n" in capsys.readouterr().out


@pytest.mark.parametrize("codec", CODECS)
def test_every_single_flipped_bit_is_found(tmp_path: Path, codec: str) -> None:
    fill(make_writer(tmp_path, codec=codec))
    source = CachedFeatures(tmp_path)
    quantised = ["lidar/stride16_scale", "lidar/stride16_zero"] if codec in QUANTISED else []
    for array in ("lidar/stride16", *quantised):
        file = shard_file(tmp_path, array)
        for byte in range(file.stat().st_size):
            flip_bit(file, byte=byte, bit=byte % 8)
            with pytest.raises(CacheError, match=f"{array} of sample"):
                source.read(["ant", "bee"])
            flip_bit(file, byte=byte, bit=byte % 8)


@pytest.mark.parametrize("codec", CODECS)
def test_a_row_of_another_shape_is_damage(codec: str) -> None:
    """As when the file of another array was put in its place."""
    values = np.arange(64, dtype=np.float16)
    sealed = CODECS[codec].encode_row(values)
    for size in (63, 65):
        with pytest.raises(DamageError, match=rf"does not decode as {codec} to \({size},\) float1"):
            CODECS[codec].decode_row(sealed, (size,), "float16")
    with pytest.raises(DamageError, match="truncated"):
        CODECS[codec].decode_row(sealed[:3], (64,), "float16")


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("size", [1, 40, 300, 70_000])
def test_rows_of_any_size_come_back(codec: str, size: int) -> None:
    """Zstd's header writes the size in one to four bytes."""
    for values in (np.random.default_rng(0).bytes(2 * size), bytes(2 * size)):
        row = np.frombuffer(values, np.uint16).view(np.float16)
        found = CODECS[codec].decode_row(CODECS[codec].encode_row(row), row.shape, "float16")
        np.testing.assert_array_equal(found.view(np.uint16), row.view(np.uint16))


@pytest.mark.parametrize("codec", LOSSLESS)
def test_a_lossless_codec_is_no_part_of_the_identity(codec: str) -> None:
    assert make_identity(codec=codec) == make_identity()


def test_resuming_with_another_lossless_codec_is_refused(begun: Path) -> None:
    assert codec_at(begun) == "zstd-1"
    with pytest.raises(
        CacheError, match=r"is coded as zstd-1, asked for is pcodec.*Leave out --codec"
    ):
        make_writer(begun, codec="pcodec")
    assert len(make_writer(begun).pending()) == 2


def test_resuming_quantised_what_was_begun_in_float16_is_another_identity(
    begun: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        IdentityError,
        match=r"storage: float16 in the store, uint8 per channel asked for \(.*--codec",
    ):
        make_writer(begun, codec="uint8-zstd-1")
    make_writer(tmp_path / "new", codec="uint8-zstd-1")
    assert codec_at(tmp_path / "new") == "uint8-zstd-1"
    assert codec_at(tmp_path / "nowhere") == DEFAULT_CODEC


def test_diff_explains_another_storage(
    stores: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diff", str(stores["none"]), str(stores["pcodec"])]) == 0
    assert main(["diff", str(stores["none"]), str(stores["uint8-zstd-1"])]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 4
    assert "storage: float16 in" in printed[1]
    assert "number format of the maps" in printed[1]


def test_features_of_another_storage_may_be_evaluated(stores: dict[str, Path]) -> None:
    """So that one can see what 8 bit cost: train on them, evaluate on float16."""
    float16, uint8 = (CachedFeatures(stores[codec]) for codec in ("zstd-1", "uint8-zstd-1"))
    assert float16.features_digest == uint8.features_digest
    assert float16.identity_digest != uint8.identity_digest


def test_a_store_of_a_codec_this_version_does_not_know_explains_itself(finished: Path) -> None:
    rewrite_metadata(finished, codec="uint4-zstd-9")
    with pytest.raises(
        CacheError, match=r"coded as uint4-zstd-9; this version.*reads zstd-1, none"
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
    for codec in ("zstd-1", "uint8-zstd-1"):
        writer = make_writer(tmp_path / codec, codec=codec)
        with pytest.raises(CacheError, match=r"camera/stride16 of sample ant.*in 8 bit already"):
            writer.write_shard(writer.pending()[0], rows)


def test_statistics_are_of_the_dequantised_values(stores: dict[str, Path]) -> None:
    store = open_store(stores["uint8-zstd-1"])
    statistics = store.ledger.read(0).statistics
    assert list(statistics) == MAPS
    seen = [maps_of(stores["uint8-zstd-1"], token)["lidar/stride8"] for token in ("ant", "bee")]
    values = np.stack([one.dequantised() for one in seen]).astype(np.float64)
    one = statistics["lidar/stride8"]
    assert (one.count, one.min, one.max) == (64, values.min(), values.max())
    assert one.mean == pytest.approx(values.mean())
    assert one.std == pytest.approx(values.std())


def test_a_scale_that_is_not_finite_is_found_by_verify(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Statistics of such values cannot be written: a writer of ours never gets that far."""
    none = Statistics(count=1, min=0, max=0, mean=0, std=0, absmax=0)

    def broken(values: np.ndarray) -> QuantisedMap:
        found = quantise(values)
        return replace(found, scale=found.scale * np.float32(np.nan))

    monkeypatch.setattr("cache.frames.quantise", broken)
    monkeypatch.setattr("cache.writer.Statistics.of", lambda _: none)
    fill(make_writer(tmp_path, codec="uint8-zstd-1"))
    assert main(["verify", str(tmp_path)]) == 1
    assert "lidar/stride8_scale of all 2 samples from ant on" in capsys.readouterr().out
