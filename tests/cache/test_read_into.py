"""Reading into existing memory gives what reading into new memory gives."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from cache.format.codec import CODECS
from cache.reader import CachedFeatures
from shared.data.batch import BatchBuffer, collate
from shared.data.features import QuantisedMap, as_floats
from shared.errors import CacheError
from tests.cache.conftest import TOKENS
from tests.cache.verification.test_damage import flip_bit, shard_file


@pytest.mark.parametrize("codec", list(CODECS))
def test_every_codec_fills_existing_memory(stores: dict[str, Path], codec: str) -> None:
    """One sample after another, as a thread does: none may change an earlier sample."""
    source = CachedFeatures(stores[codec])
    buffer = BatchBuffer(source.blank_maps, len(TOKENS))
    frames = [source.read_into(buffer.sample(i), token) for i, token in enumerate(TOKENS)]

    read = source.read(TOKENS)
    batch, twin = buffer.batch(frames, ()), collate(read)
    for name, values in batch.to("cpu").maps.items():
        np.testing.assert_array_equal(values, twin.to("cpu").maps[name], err_msg=name)
    for name, values in batch.maps.items():
        np.testing.assert_array_equal(values, twin.maps[name], err_msg=name)
    assert [frame.token for frame in frames] == list(TOKENS)
    for frame, features in zip(frames, read, strict=True):
        np.testing.assert_array_equal(
            frame.annotations.boxes_lidar, features.frame.annotations.boxes_lidar
        )


@pytest.mark.parametrize("codec", ["zstd-1-shuffle", "uint8-zstd-1"])
def test_blank_maps_have_the_shapes_and_dtypes_of_a_sample(
    stores: dict[str, Path], codec: str
) -> None:
    source = CachedFeatures(stores[codec])
    (features,) = source.read(TOKENS[:1])
    assert source.blank_maps.keys() == features.maps.keys()
    for name, values in features.maps.items():
        blank = source.blank_maps[name]
        assert type(blank) is type(values)
        assert as_floats(blank).shape == as_floats(values).shape
        assert as_floats(blank).dtype == as_floats(values).dtype


def test_only_the_maps_with_memory_are_read(stores: dict[str, Path]) -> None:
    source = CachedFeatures(stores["uint8-zstd-1"])
    maps = BatchBuffer(source.blank_maps, 1).sample(0)
    name, *unread = maps
    for blank in maps.values():
        assert isinstance(blank, QuantisedMap)
        blank.values[...], blank.scale[...], blank.zero[...] = 0, 1, 0
    source.read_into({name: maps[name]}, "cow")
    (features,) = source.read(["cow"])
    np.testing.assert_array_equal(as_floats(maps[name]), as_floats(features.maps[name]))
    assert not any(as_floats(maps[name]).any() for name in unread)


@pytest.mark.parametrize("codec", list(CODECS))
def test_damage_is_found_this_way_too(stores: dict[str, Path], codec: str, tmp_path: Path) -> None:
    path = tmp_path / "damaged.zarr"
    shutil.copytree(stores[codec], path)
    flip_bit(shard_file(path, "camera/stride16"), byte=20)
    source = CachedFeatures(path)
    with pytest.raises(CacheError, match=r"camera/stride16 of sample ant, variant 0 is damaged"):
        source.read_into(BatchBuffer(source.blank_maps, 1).sample(0), "ant")
