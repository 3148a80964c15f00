"""What was written is what is read, by us and by any Zarr v3 reader."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

from cache.coordination.store import open_store
from cache.format.codec import CODECS, DEFAULT_CODEC
from cache.format.schema import array_specs
from cache.format.shard_file import read_row
from cache.reader import CachedFeatures
from cache.storage.directory import DirectoryPath
from shared.errors import CacheError, MissingRowError
from tests.cache.conftest import (
    COMMAND,
    TOKENS,
    fill,
    make_features,
    make_identity,
    make_writer,
    small_preset,
)

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize("token", TOKENS)
def test_a_frame_comes_back_as_it_was_written(finished: Path, token: str) -> None:
    written = make_features(token)

    (read,) = CachedFeatures(finished).read([token])

    for name, values in written.maps.items():
        assert read.maps[name].dtype == np.float16
        np.testing.assert_array_equal(read.maps[name], values.astype(np.float16))
    frame, expected = read.frame, written.frame
    assert (frame.token, frame.scene, frame.variant) == (token, expected.scene, 0)
    assert frame.timestamp_us == expected.timestamp_us
    np.testing.assert_array_equal(frame.img_from_lidar, expected.img_from_lidar)
    np.testing.assert_array_equal(frame.ego_from_lidar, expected.ego_from_lidar)
    np.testing.assert_array_equal(frame.global_from_ego, expected.global_from_ego)
    for field in ("boxes_lidar", "labels", "lidar_points", "radar_points"):
        ours, theirs = getattr(frame.annotations, field), getattr(expected.annotations, field)
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)  # unknown velocities stay NaN


def test_samples_come_in_the_order_asked_for(finished: Path) -> None:
    read = CachedFeatures(finished).read(["elk", "ant", "elk"])
    assert [features.frame.token for features in read] == ["elk", "ant", "elk"]


def test_frames_can_be_read_without_their_maps(finished: Path) -> None:
    source = CachedFeatures(finished)
    frame = source.frame("dog")
    assert frame.annotations.labels.tolist() == [-1, 0, 1]
    assert frame.token == "dog"
    assert source.labels("dog").tolist() == [-1, 0, 1]


def test_the_source_says_what_it_is(finished: Path) -> None:
    source = CachedFeatures(finished)
    assert source.preset == small_preset()
    assert source.identity == make_identity()
    assert source.tokens == TOKENS
    assert source.variants == 1
    assert source.provenance.command == COMMAND
    assert source.is_complete()
    source.require_complete()


def test_a_second_variant_is_a_row_of_its_own(tmp_path: Path) -> None:
    writer = make_writer(tmp_path / "variants", variants=2)
    for shard in writer.pending():
        boxes = 1 + shard.variant  # and so other labels
        rows = [make_features(t, variant=shard.variant, boxes=boxes) for t in shard.tokens]
        writer.write_shard(shard, rows)
    source = CachedFeatures(tmp_path / "variants")
    for variant in (0, 1):
        (read,) = source.read(["elk"], variant=variant)
        expected = make_features("elk", variant=variant, boxes=1 + variant)
        for name, values in expected.maps.items():
            np.testing.assert_array_equal(read.maps[name], values.astype(np.float16))
        labels = expected.frame.annotations.labels
        np.testing.assert_array_equal(source.labels("elk", variant), labels)
        for frame in (
            read.frame,
            source.frame("elk", variant),
            source.read_into({}, "elk", variant),
        ):
            assert frame.variant == variant
            np.testing.assert_array_equal(frame.ego_from_lidar, expected.frame.ego_from_lidar)
            np.testing.assert_array_equal(frame.img_from_lidar, expected.frame.img_from_lidar)
            np.testing.assert_array_equal(frame.annotations.labels, labels)


def test_plain_zarr_reads_every_array(finished: Path) -> None:
    root = zarr.open_group(finished, mode="r")
    members = dict(root.members(max_depth=None))  # would warn about anything that is not Zarr

    for spec in array_specs(small_preset(), 3):
        array = members[spec.name]
        assert array.shape == (1, len(TOKENS), *spec.shape)
        assert array.metadata.dimension_names == ("variant", "sample", *spec.dims)
    for sample, token in enumerate(TOKENS):
        for name, values in make_features(token).maps.items():
            np.testing.assert_array_equal(members[name][0, sample], values.astype(np.float16))
    assert members["annotations/box_count"][0].tolist() == [0, 1, 2, 3, 0]
    assert bytes(members["samples/token"][1]) == b"bee"


def test_rows_not_written_are_nan_to_plain_zarr_not_zero(begun: Path) -> None:
    maps = zarr.open_array(begun / "lidar/stride8", mode="r")
    assert np.isnan(maps[0, 2]).all()


def test_what_plain_zarr_writes_can_be_read_row_by_row(tmp_path: Path) -> None:
    make_writer(tmp_path / "store")
    values = np.arange(2 * 32, dtype=np.float16).reshape(1, 2, 2, 4, 4)
    zarr.open_array(tmp_path / "store/lidar/stride8", mode="r+")[0:1, 2:4] = values

    payload = read_row(DirectoryPath(tmp_path) / "store/lidar/stride8/c.0.1.0.0.0", slot=1, slots=2)

    decoded = CODECS[DEFAULT_CODEC].decode(payload, (2, 4, 4), "float16")
    np.testing.assert_array_equal(decoded, values[0, 1])


def test_a_row_not_extracted_yet_is_an_error_and_never_zeros(begun: Path) -> None:
    source = CachedFeatures(begun)
    with pytest.raises(
        MissingRowError,
        match=r"cow, variant 0 is not extracted yet: shard 1 .*2 of 5 rows.*extract-fea",
    ):
        source.read(["ant", "cow"])
    assert source.missing() == ("cow", "dog", "elk")
    with pytest.raises(CacheError, match=r"3 of 5 samples are missing \(cow, dog, elk\).*extract-"):
        source.require_complete()


def test_a_reader_sees_shards_finished_after_it_was_opened(begun: Path) -> None:
    source = CachedFeatures(begun)
    fill(make_writer(begun))
    assert source.read(["elk"])[0].frame.token == "elk"


@pytest.mark.parametrize(("token", "variant"), [("yak", 0), ("ant", 1), ("ant", -1)])
def test_an_unknown_sample_or_variant_is_named(finished: Path, token: str, variant: int) -> None:
    with pytest.raises(
        MissingRowError, match=f"sample {token}, variant {variant} is not in .*5 samples"
    ):
        CachedFeatures(finished).read([token], variant=variant)


def test_a_source_can_be_sent_to_another_process(finished: Path, tmp_path: Path) -> None:
    parcel = tmp_path / "source.pickle"
    parcel.write_bytes(pickle.dumps(CachedFeatures(finished)))
    script = (
        "import pickle, sys; source = pickle.load(open(sys.argv[1], 'rb'));"
        "print(source.read(['elk'])[0].frame.token)"
    )

    answer = subprocess.run(
        [sys.executable, "-c", script, str(parcel)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )

    assert answer.stdout.strip() == "elk"


def test_opening_a_path_that_is_not_a_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="is not a feature store"):
        open_store(tmp_path / "nothing")
    zarr.create_group(tmp_path / "foreign")
    with pytest.raises(CacheError, match="Zarr group, but not a feature store"):
        open_store(tmp_path / "foreign")
