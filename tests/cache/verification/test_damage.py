"""Whatever happens to a file, reading it is an error with a name, never wrong numbers."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cache.__main__ import main
from cache.coordination.store import open_store
from cache.format.schema import array_specs
from cache.reader import CachedFeatures
from shared.data.features import FrameFeatures
from shared.digests import json_digest
from shared.errors import CacheError
from tests.cache.conftest import command_of, fill, make_features, make_writer, small_preset
from tests.cache.verification.test_verification import rewrite_entry

ARRAYS = [spec.name for spec in array_specs(small_preset(), 3)]
TOKENS = ("ant", "bee")  # the rows of shard 0


def shard_file(store: Path, array: str) -> Path:
    (file,) = (store / array).glob("c.0.0*")
    return file


def flip_bit(file: Path, *, byte: int, bit: int = 0) -> None:
    content = bytearray(file.read_bytes())
    content[byte] ^= 1 << bit
    file.write_bytes(content)


def repair_and_check(store: Path) -> None:
    assert main(["verify", str(store), "--repair"]) == 1  # what the message says
    fill(make_writer(store))
    assert main(["verify", str(store)]) == 0
    CachedFeatures(store).read(TOKENS)


@pytest.mark.parametrize("array", ARRAYS)
def test_a_flipped_bit_is_found_by_reading_and_by_verify(
    finished: Path, array: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flip_bit(shard_file(finished, array), byte=9)  # in the first row

    problem = rf"{array} of sample ant.*shard 0 .*checksum.*{command_of(finished)}"
    with pytest.raises(CacheError, match=problem):
        CachedFeatures(finished).read(["ant"])
    CachedFeatures(finished).read(["bee"])  # its neighbour is unharmed
    assert main(["verify", str(finished)]) == 1
    printed = capsys.readouterr().out
    assert f"{array} of ant, variant 0, shard 0" in printed
    assert f"`feature-cache verify {finished} --repair`" in printed
    repair_and_check(finished)


def test_every_single_flipped_bit_of_a_shard_is_found(finished: Path) -> None:
    file = shard_file(finished, "lidar/stride16")
    source = CachedFeatures(finished)
    whole = file.read_bytes()
    for byte in range(len(whole)):
        flip_bit(file, byte=byte, bit=byte % 8)
        with pytest.raises(CacheError, match="lidar/stride16 of sample"):
            source.read(TOKENS)
        file.write_bytes(whole)


@pytest.mark.parametrize("keep", [0, 1, 35, 36, 60, -1])
@pytest.mark.parametrize("array", ["camera/stride16", "annotations/box_count"])
def test_a_truncated_file_is_found_by_reading_and_by_verify(
    finished: Path, array: str, keep: int, capsys: pytest.CaptureFixture[str]
) -> None:
    file = shard_file(finished, array)
    file.write_bytes(file.read_bytes()[:keep])

    with pytest.raises(CacheError, match=f"{array} of sample"):
        CachedFeatures(finished).read(TOKENS)
    assert main(["verify", str(finished)]) == 1
    assert f"{array} of all 2 samples from ant on, variant 0, shard 0" in capsys.readouterr().out
    repair_and_check(finished)


@pytest.mark.parametrize("array", ARRAYS)
def test_a_lost_file_is_found_by_reading_and_by_verify(
    finished: Path, array: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shard_file(finished, array).unlink()

    with pytest.raises(CacheError, match=rf"{array} of sample ant.*is missing"):
        CachedFeatures(finished).read(["ant"])
    assert main(["verify", str(finished)]) == 1
    assert "is missing" in capsys.readouterr().out
    repair_and_check(finished)


def test_a_store_that_was_unmounted_or_moved_is_not_called_damaged(finished: Path) -> None:
    source, away = CachedFeatures(finished), finished.with_name("away")
    finished.rename(away)
    with pytest.raises(CacheError, match=r"is no longer there.*nothing is lost") as caught:
        source.read(["elk"])
    assert "--repair" not in str(caught.value)
    away.rename(finished)
    source.read(["elk"])


def test_an_intact_file_of_another_shard_is_found_by_verify_in_every_array(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The two shards differ in everything, so each array must be compared, in each of its rows."""
    path = tmp_path / "store"
    writer = make_writer(path, tokens=("bee", "cow", "dog", "elk"))
    for shard, boxes in zip(writer.shards, (1, 2), strict=True):
        rows = [make_features(token, boxes=boxes) for token in shard.tokens]
        writer.write_shard(shard, [numbered(row, boxes) for row in rows])
    for array in ARRAYS:
        ours, theirs = shard_file(path, array), path / array / "swapped"
        (other,) = (path / array).glob("c.0.1*")
        ours.rename(theirs)
        other.rename(ours)
        assert main(["verify", str(path)]) == 1, array
        printed = capsys.readouterr().out
        assert f"{array} of all 2 samples from bee on" in printed, array
        assert "not those that the ledger recorded" in printed
        ours.rename(other)
        theirs.rename(ours)
    assert main(["verify", str(path)]) == 0


def numbered(features: FrameFeatures, boxes: int) -> FrameFeatures:
    """Return the frame with annotations that depend on the number of boxes in every field."""
    own = features.frame.annotations
    changed = replace(
        own,
        labels=own.labels + boxes,
        lidar_points=own.lidar_points + boxes,
        radar_points=own.radar_points + boxes,
    )
    return replace(features, frame=replace(features.frame, annotations=changed))


@pytest.mark.parametrize("slot", [0, 1])
def test_values_of_a_single_row_that_are_not_those_of_the_ledger_are_found(
    finished: Path, slot: int, capsys: pytest.CaptureFixture[str]
) -> None:
    for array in ARRAYS:
        entry = finished / "ledger/000001.json"
        before = entry.read_bytes()
        digests = json.loads(before)["digests"]
        digests[array][slot] = "0" * 64
        rewrite_entry(finished, 1, digests=digests)
        assert main(["verify", str(finished)]) == 1, array
        printed = capsys.readouterr().out
        assert f"{array} of {('cow', 'dog')[slot]}, variant 0, shard 1" in printed
        entry.write_bytes(before)


def test_a_damaged_ledger_entry_is_found(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = finished / "ledger/000001.json"
    entry.write_text(entry.read_text().replace('"variant": 0', '"variant": 1'))
    assert main(["verify", str(finished)]) == 1
    assert "checksum does not match" in capsys.readouterr().out
    entry.write_text("")
    assert main(["verify", str(finished)]) == 1
    assert main(["digest", str(finished)]) == 1
    assert main(["show", str(finished)]) == 0
    assert "damaged     1 of 3 ledger entries" in capsys.readouterr().out


def test_a_changed_identity_on_disk_is_damage_and_not_a_different_store(finished: Path) -> None:
    file = finished / "zarr.json"
    file.write_text(file.read_text().replace("float32 compute", "float16 compute"))
    with pytest.raises(CacheError, match="damaged"):
        open_store(finished)


def rewrite_metadata(store: Path, **changes: object) -> None:
    """Change the metadata of a store, checksum included, as a different version may have."""
    file = store / "zarr.json"
    node = json.loads(file.read_text())
    ours = node["attributes"]["frozen_cmt"]
    ours.update(changes)
    del ours["checksum"]
    ours["checksum"] = json_digest(ours)
    file.write_text(json.dumps(node))


def test_a_later_schema_version_explains_itself(finished: Path) -> None:
    rewrite_metadata(finished, schema_version=99)
    with pytest.raises(CacheError, match=r"schema version 99; .* reads version 3.*newer release"):
        open_store(finished)


@pytest.mark.parametrize("name", ["token", "scene", "timestamp_us"])
def test_a_damaged_sample_list_is_an_error_on_opening(finished: Path, name: str) -> None:
    files = (finished / "samples" / name).rglob("c/**/0")
    (file,) = (file for file in files if file.is_file())
    for byte in range(file.stat().st_size):
        flip_bit(file, byte=byte)
        with pytest.raises(CacheError, match="list of samples is missing or damaged"):
            open_store(finished)
        flip_bit(file, byte=byte)
    file.unlink()
    with pytest.raises(CacheError, match="list of samples is missing or damaged"):
        open_store(finished)  # plain Zarr would return zeros


def test_damaged_array_metadata_is_found_by_verify(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = finished / "lidar/stride8/zarr.json"
    file.write_text(file.read_text().replace('"NaN"', "0.0"))
    assert main(["verify", str(finished)]) == 1
    assert "lidar/stride8/zarr.json: is missing or not as it was written" in capsys.readouterr().out
