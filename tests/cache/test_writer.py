"""A shard is either complete or absent, whatever happens to its writer."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import cache.writer
from cache.coordination.store import open_store
from cache.reader import CachedFeatures
from cache.verification.verify_store import verify
from shared.data.features import FrameFeatures
from shared.errors import CacheError, MissingRowError
from tests.cache.conftest import fill, make_features, make_writer, with_map
from tests.child_processes import READY, exit_code, let_go, running

FLOAT16_MAX = 65504.0


def contents(path: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_resuming_writes_only_what_is_missing(begun: Path) -> None:
    before = (begun / "ledger/000000.json").stat().st_mtime_ns
    writer = make_writer(begun)
    assert [shard.tokens for shard in writer.shards] == [("ant", "bee"), ("cow", "dog"), ("elk",)]
    assert [shard.index for shard in writer.pending()] == [1, 2]

    fill(writer)

    assert not writer.pending()
    assert (begun / "ledger/000000.json").stat().st_mtime_ns == before
    assert CachedFeatures(begun).is_complete()


def test_shards_are_cut_by_bytes_and_hold_at_least_one_row(tmp_path: Path) -> None:
    writer = make_writer(tmp_path / "small", rows_per_shard=0)
    assert [len(shard.tokens) for shard in writer.shards] == [1] * 5
    writer = make_writer(tmp_path / "large", rows_per_shard=1000)
    assert [len(shard.tokens) for shard in writer.shards] == [5]


@pytest.mark.parametrize("is_larger", [False, True])
def test_only_a_store_larger_than_memory_leaves_the_page_cache(
    is_larger: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = make_writer(tmp_path / "store")
    rows = [writer.encode(make_features(token)) for token in writer.shards[0].tokens]
    store_bytes = len(writer.shards) * sum(row.disk_bytes for row in rows)
    monkeypatch.setattr(cache.writer, "available_memory_bytes", lambda: store_bytes - is_larger)
    advice = list[tuple[int, ...]]()
    monkeypatch.setattr(os, "posix_fadvise", lambda _, *of_file: advice.append(of_file))

    writer.write_encoded(writer.shards[0], rows)

    dropped = (0, 0, os.POSIX_FADV_DONTNEED)
    assert advice == ([dropped] * len(writer.store.arrays) if is_larger else [])


def test_a_shard_without_all_its_rows_is_refused(begun: Path) -> None:
    writer = make_writer(begun)
    shard = writer.pending()[0]
    with pytest.raises(CacheError, match=r"holds 2 samples, got 2; missing dog, too many elk"):
        writer.write_shard(shard, [make_features("cow"), make_features("elk")])
    with pytest.raises(CacheError, match=r"got 3; missing none, too many dog"):
        writer.write_shard(shard, [make_features(token) for token in ("cow", "dog", "dog")])
    with pytest.raises(CacheError, match="got 0"):
        writer.write_shard(shard, [])
    assert len(writer.pending()) == 2


def test_rows_are_stored_in_the_order_of_the_store_whatever_order_they_come_in(
    begun: Path,
) -> None:
    writer = make_writer(begun)
    writer.write_shard(writer.pending()[0], [make_features("dog"), make_features("cow")])

    for token in ("cow", "dog"):
        (read,) = CachedFeatures(begun).read([token])
        expected = make_features(token)
        np.testing.assert_array_equal(read.frame.ego_from_lidar, expected.frame.ego_from_lidar)
        for name, values in expected.maps.items():
            np.testing.assert_array_equal(read.maps[name], values.astype(np.float16))
    assert not verify(open_store(begun)).damages


def replaced(features: FrameFeatures, **changes: object) -> FrameFeatures:
    return replace(features, frame=replace(features.frame, **changes))


@pytest.mark.parametrize("change", [{"scene": "elsewhere"}, {"timestamp_us": 5}, {"variant": 1}])
def test_a_row_of_a_different_scene_time_or_variant_is_refused(
    begun: Path, change: dict[str, object]
) -> None:
    writer = make_writer(begun)
    rows = [make_features("cow"), replaced(make_features("dog"), **change)]
    with pytest.raises(CacheError, match=r"sample dog: \(variant, scene, timestamp_us\) is .* got"):
        writer.write_shard(writer.pending()[0], rows)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 7e4, -7e4])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_value_without_a_finite_float16_is_refused(
    begun: Path, bad: float, dtype: type[np.floating]
) -> None:
    writer = make_writer(begun)
    before = contents(begun)
    values = np.zeros((2, 4, 4), np.float32)
    values[1, 2, 3] = bad
    with np.errstate(over="ignore"):
        row = with_map(make_features("dog"), "lidar/stride8", values.astype(dtype))
    with pytest.raises(CacheError, match=r"lidar/stride8 of sample dog.*float16 ends at 65504"):
        writer.write_shard(writer.pending()[0], [make_features("cow"), row])
    assert contents(begun) == before


def test_the_largest_float16_is_stored(begun: Path) -> None:
    writer = make_writer(begun)
    row = with_map(
        make_features("dog"), "lidar/stride8", np.full((2, 4, 4), -FLOAT16_MAX, np.float32)
    )
    writer.write_shard(writer.pending()[0], [make_features("cow"), row])
    statistics = writer.store.ledger.read(1).statistics["lidar/stride8"]
    assert (statistics.absmax, statistics.min) == (FLOAT16_MAX, -FLOAT16_MAX)
    assert statistics.count == 2 * 32


def test_a_wrong_shape_names_sample_array_and_both_shapes(begun: Path) -> None:
    writer = make_writer(begun)
    row = with_map(make_features("dog"), "lidar/stride16", np.zeros((3, 2, 1), np.float32))
    with pytest.raises(
        CacheError,
        match=r"lidar/stride16 of sample dog.*\(C, Y, X\) = \(3, 2, 2\), got \(3, 2, 1\).*show",
    ):
        writer.write_shard(writer.pending()[0], [make_features("cow"), row])


def test_an_absent_or_unknown_map_is_refused(begun: Path) -> None:
    writer = make_writer(begun)
    dog = make_features("dog")
    without = replace(dog, maps={"lidar/stride8": dog.maps["lidar/stride8"]})
    with pytest.raises(CacheError, match="camera/stride16 of sample dog, variant 0 is absent"):
        writer.write_shard(writer.pending()[0], [make_features("cow"), without])
    surplus = with_map(dog, "radar/stride4", np.zeros(1, np.float32))
    with pytest.raises(
        CacheError, match="sample dog: this store has no array called radar/stride4"
    ):
        writer.write_shard(writer.pending()[0], [make_features("cow"), surplus])


def test_unfit_geometry_and_boxes_are_refused(begun: Path) -> None:
    writer = make_writer(begun)
    cow, dog = make_features("cow"), make_features("dog")
    bad_pose = replaced(dog, ego_from_lidar=np.full((4, 4), np.nan))
    with pytest.raises(CacheError, match=r"ego_from_lidar of sample dog.*not finite"):
        writer.write_shard(writer.pending()[0], [cow, bad_pose])
    crowded = make_features("dog", boxes=4)
    with pytest.raises(CacheError, match=r"sample dog.*4 boxes, but this store holds at most 3"):
        writer.write_shard(writer.pending()[0], [cow, crowded])
    boxes = dog.frame.annotations.boxes_lidar.copy()
    boxes[0, 6] = np.nan
    no_yaw = replaced(dog, annotations=replace(dog.frame.annotations, boxes_lidar=boxes))
    with pytest.raises(CacheError, match=r"sample dog.*only velocities may be NaN"):
        writer.write_shard(writer.pending()[0], [cow, no_yaw])


def test_a_kill_between_the_bytes_and_the_ledger_leaves_no_shard(
    begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = make_writer(begun)
    with monkeypatch.context() as patch:
        patch.setattr(cache.writer, "_entry", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            fill(writer, shards=1)
    assert (begun / "lidar/stride8/c.0.1.0.0.0").exists()
    with pytest.raises(MissingRowError):
        CachedFeatures(begun).read(["cow"])

    fill(make_writer(begun))

    assert not verify(open_store(begun)).damages


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.cache.conftest import fill, make_writer

files, real_fsync = 0, os.fsync
def fsync_or_die(descriptor):
    global files
    files += 1
    if files == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    real_fsync(descriptor)

writer = make_writer(Path(sys.argv[1]))
os.fsync = fsync_or_die
fill(writer)
"""


def test_after_kills_at_any_file_the_store_is_finished_whole(tmp_path: Path) -> None:
    path = tmp_path / "store"
    make_writer(path)
    for at in (1, 20, 27):
        with running(KILLED, [path, at]) as (killed,):
            assert exit_code(killed) == -9
    assert list(path.rglob("*.partial"))

    fill(make_writer(path))

    assert not verify(open_store(path)).damages
    assert not [file for file in path.rglob("*.partial") if "ledger" not in file.parts]


RACING = f"""
import sys
from pathlib import Path
from tests.cache.conftest import make_features, make_writer, with_map

writer = make_writer(Path(sys.argv[1]), rows_per_shard=1)
offset = float(sys.argv[2])
{READY}
for shard in writer.shards:
    features = make_features(shard.tokens[0])
    for name, values in features.maps.items():
        features = with_map(features, name, values + offset)
    writer.write_shard(shard, [features])
"""


def test_two_processes_on_the_same_shards_end_in_one_whole_store(tmp_path: Path) -> None:
    """Their numbers differ, as on two GPUs; no shard may mix the two."""
    path = tmp_path / "store"
    with running(RACING, *([path, offset] for offset in (0.0, 1.0))) as racers:
        let_go(racers)
        assert [exit_code(racer) for racer in racers] == [0, 0]

    store = open_store(path)
    assert not verify(store).damages
    for read in CachedFeatures(path).read(store.samples.tokens):
        written = make_features(read.frame.token).maps
        offsets = {round(float((read.maps[n] - written[n]).mean())) for n in written}
        assert len(offsets) == 1


def test_a_shard_completed_by_another_worker_is_left_alone(begun: Path) -> None:
    writer = make_writer(begun)
    shard = writer.pending()[0]
    rows = [make_features(token) for token in shard.tokens]
    assert writer.write_shard(shard, rows) is True
    before = contents(begun)
    assert writer.write_shard(shard, rows) is False
    assert contents(begun).keys() - before.keys() <= {str(begun / "ledger/000001.lock")}


def test_a_full_disk_says_how_much_to_free_and_resumes(
    begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = make_writer(begun)
    calls = []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        needed = 3 * writer.store.ledger.read(0).bytes_on_disk // 2
        with pytest.raises(
            CacheError,
            match=rf"disk is full at shard 1.*3 rows are left, {needed} bytes as measured.*kept",
        ):
            fill(writer)
    assert not list(begun.rglob("*.partial"))
    fill(writer)
    assert CachedFeatures(begun).is_complete()


def test_a_directory_that_cannot_be_written_is_a_message(
    begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(CacheError, match=r"cannot write shard 1.*finished shards are kept"):
        fill(make_writer(begun))
