"""Every codec returns what was written, to us and to any Zarr reader, and detects damage."""

from pathlib import Path

import numpy as np
import pytest
import zarr

from cache.__main__ import main
from cache.format.codec import CODECS, DEFAULT_CODEC, FLOAT16, UINT8, DamageError
from cache.format.schema import array_specs, scale_name, zero_name
from cache.format.shard_file import read_row
from cache.reader import CachedFeatures
from cache.storage.directory import DirectoryPath
from shared.data.features import QuantisedMap
from shared.errors import CacheError
from tests.cache.conftest import (
    TOKENS,
    fill,
    make_features,
    make_writer,
    small_preset,
)
from tests.cache.verification.test_damage import flip_bit, shard_file

LOSSLESS = [codec.name for codec in CODECS.values() if codec.value_format == FLOAT16]
QUANTISED = [codec.name for codec in CODECS.values() if codec.value_format == UINT8]
MAPS = [feature_map.name for feature_map in small_preset().maps]


def maps_of(path: Path, token: str) -> dict[str, np.ndarray | QuantisedMap]:
    (read,) = CachedFeatures(path).read([token])
    return dict(read.maps)


def test_the_codecs_are_these() -> None:
    """A store names its codec: taking a name away makes stores unreadable."""
    assert LOSSLESS == ["zstd-1-shuffle", "zstd-1", "none", "lz4-bitshuffle", "pcodec"]
    assert QUANTISED == ["uint8-zstd-1", "uint8-lz4-bitshuffle"]
    assert DEFAULT_CODEC == "zstd-1-shuffle"


def test_shuffled_bytes_of_a_relu_are_a_twentieth_smaller() -> None:
    """Signs, exponents and high mantissa bits have few values, the low bits of a mantissa all."""
    values = np.random.default_rng(0).normal(0, 1, 2**20).clip(0).astype(np.float16)
    plain, shuffled = (len(CODECS[name].encode_row(values)) for name in ("zstd-1", DEFAULT_CODEC))
    assert shuffled < 0.95 * plain


@pytest.mark.parametrize("codec", LOSSLESS)
def test_a_lossless_codec_returns_every_bit(stores: dict[str, Path], codec: str) -> None:
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
        assert members[spec.name].metadata.dimension_names == ("variant", "sample", *spec.dims)
    for sample, token in enumerate(TOKENS):
        for name, ours in maps_of(stores[codec], token).items():
            theirs = members[name][0, sample]
            if isinstance(ours, QuantisedMap):
                formula = f"{zero_name(name)} + {scale_name(name)} * this, in float32"
                assert formula in members[name].attrs["about"]
                scale, zero = (members[f"{name}_{end}"][0, sample] for end in ("scale", "zero"))
                theirs = zero[..., None, None] + scale[..., None, None] * theirs
                ours = ours.dequantised()
            np.testing.assert_array_equal(theirs, ours)
    assert members["annotations/box_count"][0].tolist() == [0, 1, 2, 3, 0]


@pytest.mark.parametrize("codec", CODECS)
def test_plain_zarr_writes_the_bytes_that_we_write(tmp_path: Path, codec: str) -> None:
    make_writer(tmp_path / "store", codec=codec)
    dtype = "float16" if codec in LOSSLESS else "uint8"
    values = np.arange(2 * 32, dtype=dtype).reshape(1, 2, 2, 4, 4)
    zarr.open_array(tmp_path / "store/lidar/stride8", mode="r+")[0:1, 2:4] = values

    payload = read_row(DirectoryPath(tmp_path) / "store/lidar/stride8/c.0.1.0.0.0", slot=1, slots=2)

    assert payload.tobytes() == CODECS[codec].pack(values[0, 1].reshape(-1))
    decoded = CODECS[codec].decode(payload, (2, 4, 4), dtype)
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
def test_a_row_of_a_different_shape_is_damage(codec: str) -> None:
    """As when the file of a different array was put in its place."""
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
        decoded = CODECS[codec].decode_row(CODECS[codec].encode_row(row), row.shape, "float16")
        np.testing.assert_array_equal(decoded.view(np.uint16), row.view(np.uint16))
