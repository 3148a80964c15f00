"""Many workers on one store: any number of them, in any order, end in one complete store."""

import errno
import fcntl
import threading
from pathlib import Path
from typing import IO

import pytest

import shared.process.file_lock
from cache.coordination.claims import Claims, WorkerSlice, shards_to_do
from cache.coordination.store import open_store
from cache.inspection.content_digest import content_digest
from cache.storage.directory import DirectoryPath
from cache.verification.verify_store import verify
from cache.writer import StoreWriter
from shared.errors import CacheError
from shared.process.file_lock import lock_file
from tests.cache.conftest import fill, make_writer
from tests.child_processes import READY, exit_code, let_go, running, wait_until_ready


@pytest.fixture
def empty(tmp_path: Path) -> StoreWriter:
    """A store of five shards, none complete."""
    return make_writer(tmp_path / "store", rows_per_shard=1)


def order(writer: StoreWriter, worker: WorkerSlice, claims: Claims) -> list[int]:
    return [shard.index for shard in shards_to_do(writer.store, worker, claims)]


def test_a_worker_begins_with_its_slice_and_helps_from_the_end(empty: StoreWriter) -> None:
    claims = Claims(empty.store)
    assert order(empty, WorkerSlice(number=2, of=3), claims) == [1, 4, 3, 2, 0]


def test_slices_hold_every_shard_once() -> None:
    for workers in (1, 2, 3, 5, 8):
        slices = [WorkerSlice(number=i + 1, of=workers) for i in range(workers)]
        for shard in range(11):
            assert sum(worker.holds(shard) for worker in slices) == 1


def test_a_shard_that_another_worker_has_is_left_to_it(empty: StoreWriter) -> None:
    theirs = Claims(empty.store)
    assert theirs.take(2)
    assert order(empty, WorkerSlice(), Claims(empty.store)) == [0, 1, 3, 4]


def test_a_shard_whose_worker_gave_up_is_found_before_the_end(empty: StoreWriter) -> None:
    theirs, ours, taken = Claims(empty.store), Claims(empty.store), []
    assert theirs.take(2)
    for shard in shards_to_do(empty.store, WorkerSlice(), ours):
        taken.append(shard.index)
        if shard.index == 3:
            theirs.release_all()
    assert taken == [0, 1, 3, 4, 2]


def test_a_complete_shard_is_not_taken(empty: StoreWriter) -> None:
    fill(empty, shards=2)
    assert order(empty, WorkerSlice(), Claims(empty.store)) == [2, 3, 4]


def test_a_shard_finished_while_it_was_being_claimed_is_not_taken(
    empty: StoreWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = DirectoryPath.lock

    def lock_late(path: DirectoryPath, **options: bool) -> IO[str] | None:
        monkeypatch.setattr(DirectoryPath, "lock", honest)
        fill(empty, shards=1)  # another worker, between the look at the ledger and the lock
        return honest(path, **options)

    monkeypatch.setattr(DirectoryPath, "lock", lock_late)
    claims = Claims(empty.store)
    assert not claims.take(0)
    assert not list(Path(str(empty.store.path)).rglob("*.claim"))


def test_claims_leave_no_file_behind(empty: StoreWriter) -> None:
    claims = Claims(empty.store)
    order(empty, WorkerSlice(), claims)
    assert len(list(Path(str(empty.store.path)).rglob("*.claim"))) == 5
    claims.release_all()
    assert not list(Path(str(empty.store.path)).rglob("*.claim"))


HOLDER = f"""
import sys
from pathlib import Path
from cache.coordination.claims import Claims
from cache.coordination.store import open_store

claims = Claims(open_store(Path(sys.argv[1])))
assert claims.take(2)
{READY}
"""


def test_a_killed_worker_holds_nothing(empty: StoreWriter) -> None:
    with running(HOLDER, [empty.store.path]) as (holder,):
        wait_until_ready(holder)
        assert not Claims(empty.store).take(2)
        holder.kill()
        assert exit_code(holder) == -9
    assert Claims(empty.store).take(2)


def test_on_a_file_system_without_locks_a_worker_only_extracts_its_own_slice(
    empty: StoreWriter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert order(empty, WorkerSlice(number=2, of=3), Claims(empty.store)) == [1, 4]
    assert "only extracts its own slice" in caplog.text


def test_a_full_disk_is_reported_when_a_shard_is_claimed(
    empty: StoreWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(DirectoryPath, "lock", full)
    with pytest.raises(CacheError, match="the disk is full at shard 0"):
        order(empty, WorkerSlice(), Claims(empty.store))


def test_a_lock_on_a_file_that_its_holder_removed_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a third worker would make the file anew and hold it, too."""
    path = tmp_path / "lock"
    first = lock_file(path, is_patient=True)
    assert first is not None
    found: list[bool] = []
    honest, has_opened = fcntl.flock, threading.Event()

    def tell(file: IO[str], operation: int) -> None:
        has_opened.set()
        honest(file, operation)

    monkeypatch.setattr(fcntl, "flock", tell)

    def wait_for_it() -> None:
        second = lock_file(path, is_patient=True)
        assert second is not None
        found.append(shared.process.file_lock._is_at(path, second))
        second.close()

    waiting = threading.Thread(target=wait_for_it, daemon=True)
    waiting.start()
    assert has_opened.wait(60)  # the file that is removed now
    path.unlink()
    first.close()
    waiting.join(60)
    assert found == [True]


WORKER = f"""
import sys
from pathlib import Path
from cache.coordination.claims import Claims, WorkerSlice, shards_to_do
from tests.cache.conftest import make_features, make_writer

path, number = Path(sys.argv[1]), int(sys.argv[2])
{READY}
writer = make_writer(path, rows_per_shard=1)  # all four at once: one of them creates it
claims = Claims(writer.store)
for shard in shards_to_do(writer.store, WorkerSlice(number=number, of=4), claims):
    writer.write_shard(shard, [make_features(token) for token in shard.tokens])
    claims.release(shard.index)
"""


def test_four_workers_create_and_fill_one_store(tmp_path: Path, finished: Path) -> None:
    path = tmp_path / "race" / "store"
    path.parent.mkdir()
    with running(WORKER, *([path, number] for number in (1, 2, 3, 4))) as racers:
        let_go(racers)
        assert [exit_code(racer) for racer in racers] == [0] * 4
    store = open_store(path)
    assert not verify(store).damages
    assert content_digest(store, recompute=True) == content_digest(open_store(finished))
    kept = {file.suffix for file in path.rglob("*") if file.is_file()}
    assert not kept & {".claim", ".lock", ".partial"}
    assert [file.name for file in path.parent.glob(".*")] == []  # no half-created store
