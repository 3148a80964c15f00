"""Whatever object storage or another worker does, a store is intact, or says what to do."""

import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import cache.storage.bucket
from cache.__main__ import main
from cache.coordination.store import open_store
from cache.format.samples import read_samples
from cache.inspection.content_digest import content_digest
from cache.reader import CachedFeatures
from cache.storage.bucket import RemoteError
from cache.storage.object_storage import object_path
from cache.verification.verify_store import verify
from cache.writer import StoreWriter
from shared.errors import CacheError
from tests.cache.conftest import fill, make_features, make_writer, with_map
from tests.child_processes import exit_code, running
from tests.flaky_server import Flaky


def test_an_unreachable_storage_is_not_taken_for_a_damaged_list_of_samples(
    flaky: Flaky, s3: str
) -> None:
    store = object_path(f"{s3}/train.zarr")
    digest = make_writer(store).store.metadata.samples_digest
    flaky.path_piece, flaky.faults = "samples/scene", ["busy"] * 1000
    with pytest.raises(RemoteError, match="can be reached from here"):
        read_samples(store, digest)


def test_a_store_written_and_read_through_faults_is_intact(
    flaky: Flaky, s3: str, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache.storage.bucket, "PATIENCE_S", 30.0)
    store = object_path(f"{s3}/train.zarr")
    flaky.faults = ["busy", "", "", "reset", "", "", "half", "", "", "lost", "", ""] * 12
    fill(make_writer(store))
    assert content_digest(open_store(store), recompute=True) == content_digest(open_store(finished))
    assert not flaky.faults


def test_an_outage_while_writing_keeps_finished_shards(flaky: Flaky, s3: str) -> None:
    store = object_path(f"{s3}/train.zarr")
    writer = make_writer(store)
    fill(writer, shards=1)
    flaky.method, flaky.path_piece, flaky.faults = "PUT", "lidar/stride16/c.0.1", ["busy"] * 1000
    with pytest.raises(CacheError, match=r"lidar/stride16/c\.0\.1.*finished shards are kept"):
        fill(writer, shards=1)
    flaky.faults = []
    assert [shard.index for shard in make_writer(store).pending()] == [1, 2]


def test_an_outage_while_verifying_is_not_damage(flaky: Flaky, s3: str) -> None:
    store = object_path(f"{s3}/train.zarr")
    fill(make_writer(store))
    flaky.path_piece, flaky.faults = "lidar/stride16/c.0.1", ["busy"] * 1000
    with pytest.raises(RemoteError, match="Nothing is known to be damaged"):
        verify(open_store(store))


def test_a_replacement_whose_answer_is_lost_counts_as_made(
    flaky: Flaky, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache.storage.bucket, "PATIENCE_S", 30.0)
    file = object_path(f"{s3}/a.json")
    file.write_bytes(b"old")
    flaky.method, flaky.faults = "PUT", ["lost"]
    assert file.replace_whole(b"old", b"new")
    assert not flaky.faults
    assert not file.replace_whole(b"old", b"newer")


def test_a_replacement_at_the_same_moment_is_noticed(s3: str) -> None:
    file = object_path(f"{s3}/a.json")
    file.write_bytes(b"old")
    real = file.bucket.request

    def request(key: str, send: Callable[[Any], Any]) -> Any:
        def send_late(client: Any) -> Any:
            answer = client.get(key)  # what we decide on
            file.write_bytes(b"theirs")
            late = SimpleNamespace(get=lambda _: answer, put=client.put)
            return send(late)

        file.bucket.request = real  # type: ignore[method-assign]
        return real(key, send_late)

    file.bucket.request = request  # type: ignore[method-assign]
    assert not file.replace_whole(b"old", b"ours")
    assert file.read_bytes() == b"theirs"


def meanwhile(monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]) -> None:
    """Let something happen once, between a worker's arrays and its ledger entry."""
    real = StoreWriter._write_arrays

    def slow(self: StoreWriter, *rest: object, **options: object) -> int:
        size = real(self, *rest, **options)  # type: ignore[arg-type]
        monkeypatch.setattr(StoreWriter, "_write_arrays", real)
        work()
        return size

    monkeypatch.setattr(StoreWriter, "_write_arrays", slow)


def test_of_two_workers_on_a_shard_the_first_entry_stays(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = object_path(f"{s3}/train.zarr")
    ours, theirs = make_writer(store), make_writer(store)
    entries: list[bytes] = []

    def work() -> None:
        fill(theirs, shards=1)
        entries.append((store / "ledger/000000.json").read_bytes())

    meanwhile(monkeypatch, work)
    shard = ours.pending()[0]
    rows = [make_features(token) for token in shard.tokens]
    assert ours.write_shard(shard, rows) is False
    assert (store / "ledger/000000.json").read_bytes() == entries[0]
    assert not verify(open_store(store)).damages


def test_of_two_workers_whose_numbers_differ_one_has_the_whole_shard(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on two kinds of GPU, whose last bits may differ."""
    store = object_path(f"{s3}/train.zarr")
    ours, theirs = make_writer(store), make_writer(store)
    shard = ours.pending()[0]
    rows = [make_features(token) for token in shard.tokens]
    shifted = rows[0].maps["lidar/stride16"] + 1
    meanwhile(
        monkeypatch,
        lambda: (
            theirs.write_shard(shard, [with_map(rows[0], "lidar/stride16", shifted), rows[1]])
            and None
        ),
    )
    assert ours.write_shard(shard, rows) is True
    assert not verify(open_store(store)).damages
    assert CachedFeatures(store).read(shard.tokens)


KILLED = """
import os, signal, sys
from cache.storage.object_storage import ObjectPath, object_path
from tests.cache.conftest import fill, make_writer

real, left = ObjectPath.write_bytes, int(sys.argv[2])
writer = make_writer(object_path(sys.argv[1]))

def write_bytes(self, content):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    real(self, content)

ObjectPath.write_bytes = write_bytes
fill(writer)
"""


def test_a_killed_writer_loses_one_shard(s3: str, finished: Path) -> None:
    store = object_path(f"{s3}/train.zarr")
    arrays = len(open_store(finished).arrays)
    with running(KILLED, [store, arrays + 5]) as (killed,):
        assert exit_code(killed) == -signal.SIGKILL
    writer = make_writer(store)
    assert [shard.index for shard in writer.pending()] == [1, 2]
    fill(writer)
    assert content_digest(open_store(store), recompute=True) == content_digest(open_store(finished))


def test_a_missing_bucket_is_named(s3: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", f"{s3}-not/train.zarr"]) == 1
    printed = capsys.readouterr().err
    assert f"There is no bucket {s3[5:]}-not at http://127.0.0.1" in printed
    with pytest.raises(RemoteError, match="There is no bucket"):
        make_writer(object_path(f"{s3}-not/train.zarr"))


def test_a_prefix_without_a_store_is_not_a_store(s3: str) -> None:
    with pytest.raises(CacheError, match=r"s3://.*nothing\.zarr is not a feature store"):
        CachedFeatures(object_path(f"{s3}/nothing.zarr"))
