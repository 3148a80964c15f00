"""Writing a shard while the next is computed changes only the time that it takes."""

import errno
import json
import logging
import os
import shutil
import signal
import threading
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import cache.storage.directory
import stage1_extract.extraction.fill_store
from cache.coordination.claims import Claims, WorkerSlice
from cache.coordination.store import open_store
from cache.reader import CachedFeatures
from cache.verification.verify_store import verify
from cache.writer import StoreWriter
from shared.data.features import FrameFeatures
from shared.errors import CacheError, DatasetError, FrozenError, InterruptedWorkError
from stage1_extract.extraction.background_writer import BackgroundWriter
from stage1_extract.extraction.fill_store import fill_store
from tests.cache.conftest import TOKENS, fill, make_features, make_writer, with_map

Rows = list[FrameFeatures]


class Backbones:
    """Stands in for `FrozenBackbones`, of which only the digests are used here."""

    state = "a"

    def digests(self) -> dict[str, str]:
        return {"img_backbone": self.state}


class Live:
    """Stands in for `LiveFeatures`: the rows that the cache tests write, as if computed now."""

    def __init__(self, *_: object) -> None:
        self.raw = self

    def __len__(self) -> int:
        return len(TOKENS)

    def __getitem__(self, place: tuple[int, int]) -> FrameFeatures:
        return make_features(TOKENS[place[1]], variant=place[0])

    def run(self, raw: Rows) -> Rows:
        return raw


@pytest.fixture(autouse=True)
def _stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage1_extract.extraction.fill_store, "LiveFeatures", Live)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # no test here cuts the power


@pytest.fixture
def writer(tmp_path: Path) -> StoreWriter:
    """An empty store of five shards."""
    return make_writer(tmp_path / "store", rows_per_shard=1)


def extract(writer: StoreWriter, **options: Any) -> None:
    fill_store(writer, [], Backbones(), **options)  # type: ignore[arg-type]


def run_first(monkeypatch: pytest.MonkeyPatch, run: Any) -> None:
    """Pass every batch to `run` before it counts as computed."""
    monkeypatch.setattr(Live, "run", lambda self, raw: run(raw) or raw)


def without_times(path: Path) -> dict[str, object]:
    """Every file of a store by name, without the fields that say when and how fast."""
    contents: dict[str, object] = {}
    for file in sorted(path.rglob("*")):
        if file.is_file():
            contents[str(file.relative_to(path))] = file.read_bytes()
        if file.match("ledger/0*.json"):
            entry = json.loads(file.read_bytes())
            contents[str(file.relative_to(path))] = {
                key: entry[key]
                for key in entry.keys() - {"write_seconds", "written_at", "checksum"}
            }
    del contents["zarr.json"]
    return contents


@pytest.mark.parametrize("batch_size", [1, 2, 100])
@pytest.mark.parametrize("rows_per_shard", [1, 2, 5])
def test_overlapped_and_plain_extraction_make_identical_stores(
    tmp_path: Path, rows_per_shard: int, batch_size: int
) -> None:
    plain = make_writer(tmp_path / "plain", rows_per_shard=rows_per_shard, variants=2)
    fill(plain)
    overlapped = make_writer(tmp_path / "overlapped", rows_per_shard=rows_per_shard, variants=2)
    extract(overlapped, batch_size=batch_size)
    assert without_times(tmp_path / "overlapped") == without_times(tmp_path / "plain")


def test_a_shard_is_written_while_the_next_is_computed_and_no_third_is_begun(
    writer: StoreWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, events = StoreWriter.write_shard, []
    honest_wait, is_waiting = BackgroundWriter.wait, threading.Event()

    def slow(self: StoreWriter, shard: Any, rows: Sequence[FrameFeatures]) -> bool:
        if shard.index == 0:
            assert is_waiting.wait(60)  # shard 1 is computed meanwhile
            events.append("written 0")
        return honest(self, shard, rows)

    def run(raw: Rows) -> None:
        events.append(raw[0].frame.token)

    def tell(self: BackgroundWriter) -> None:
        if "bee" in events:
            is_waiting.set()
        honest_wait(self)

    monkeypatch.setattr(StoreWriter, "write_shard", slow)
    monkeypatch.setattr(BackgroundWriter, "wait", tell)
    run_first(monkeypatch, run)
    extract(writer)
    assert events[:4] == ["ant", "bee", "written 0", "cow"]


def test_the_rows_of_two_shards_are_in_memory_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[weakref.ref[Any]] = []
    most = 0

    def run(raw: Rows) -> None:
        nonlocal most
        alive.extend(weakref.ref(row.maps["lidar/stride8"]) for row in raw)
        most = max(most, sum(reference() is not None for reference in alive))

    run_first(monkeypatch, run)
    extract(make_writer(tmp_path / "many", rows_per_shard=2, variants=4))
    assert len(alive) == 20
    assert 2 < most <= 2 * 2 + 1  # and the row that is being computed


@pytest.mark.parametrize("failing", [0, 2, 4])
def test_a_full_disk_in_the_writer_stops_the_run_and_keeps_finished_shards(
    writer: StoreWriter, failing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, computed = cache.storage.directory.os.fsync, []

    def full(descriptor: int) -> None:
        name = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        if f"c.0.{failing}." in name:
            raise OSError(errno.ENOSPC, "No space left on device")
        honest(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(cache.storage.directory.os, "fsync", full)
        run_first(patch, computed.append)
        with pytest.raises(CacheError, match=f"the disk is full at shard {failing} of"):
            extract(writer)
    assert [shard.index for shard in writer.pending()] == list(range(failing, 5))
    assert len(computed) <= failing + 3  # promptly, before everything is computed
    left_over = {file.suffix for file in writer.store.path.rglob("*")}
    assert not left_over & {".partial", ".claim"}
    extract(writer)
    assert not verify(writer.store).damages
    assert CachedFeatures(writer.store.path).is_complete()


def test_an_unfit_value_is_the_same_error_as_without_a_thread(
    writer: StoreWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(self: Live, raw: Rows) -> Rows:
        bad = np.full((2, 4, 4), 7e4, np.float32)
        return [with_map(row, "lidar/stride8", bad) for row in raw]

    monkeypatch.setattr(Live, "run", run)
    with pytest.raises(
        CacheError, match=r"lidar/stride8 of sample ant, variant 0: largest magnitude"
    ):
        extract(writer)
    assert len(writer.pending()) == 5


def test_if_computing_fails_the_shard_being_written_is_finished(
    writer: StoreWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(raw: Rows) -> None:
        if raw[0].frame.token == "bee":
            raise DatasetError("image bee cannot be read")

    run_first(monkeypatch, run)
    with pytest.raises(DatasetError):
        extract(writer)
    assert [shard.index for shard in writer.pending()] == [1, 2, 3, 4]


def test_if_both_fail_neither_error_is_lost(
    writer: StoreWriter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failed = threading.Event()

    def broken(self: StoreWriter, *_: object) -> bool:
        failed.wait(10)
        raise CacheError("the disk is full")

    def run(raw: Rows) -> None:
        if raw[0].frame.token == "bee":
            failed.set()
            raise DatasetError("image bee cannot be read")

    monkeypatch.setattr(StoreWriter, "write_shard", broken)
    run_first(monkeypatch, run)
    with pytest.raises(DatasetError):
        extract(writer)
    assert "the shard that was being written is lost as well: the disk is full" in caplog.text


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_shard_being_written_and_says_how_to_continue(
    writer: StoreWriter, signum: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(raw: Rows) -> None:
        if raw[0].frame.token == "cow":
            os.kill(os.getpid(), signum)

    handler = signal.getsignal(signum)  # SIG_IGN where the tests run in the background of a script
    with monkeypatch.context() as patch:
        run_first(patch, run)
        with pytest.raises(InterruptedWorkError, match=r"3 shards were finished.*2 of 5 are left"):
            extract(writer)
    assert [shard.index for shard in writer.pending()] == [3, 4]
    assert signal.getsignal(signum) == handler
    extract(writer)
    assert not writer.pending()


def test_a_signal_during_the_last_shard_changes_nothing(
    writer: StoreWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(raw: Rows) -> None:
        if raw[0].frame.token == "elk":
            os.kill(os.getpid(), signal.SIGTERM)

    run_first(monkeypatch, run)
    extract(writer)
    assert not writer.pending()


@pytest.fixture
def _another_worker(writer: StoreWriter) -> Iterator[None]:
    claims = Claims(writer.store)
    assert claims.take(1)
    yield
    claims.release_all()


@pytest.mark.usefixtures("_another_worker")
def test_a_slice_is_where_a_worker_begins_and_claimed_shards_are_left_alone(
    writer: StoreWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[str] = []
    run_first(monkeypatch, lambda raw: computed.append(raw[0].frame.token))
    extract(writer, worker_slice=WorkerSlice(number=3, of=4))
    assert computed == ["cow", "elk", "dog", "ant"]
    assert [shard.index for shard in writer.pending()] == [1]


def test_size_and_time_are_logged_before_the_start_and_after_the_first_shard(
    writer: StoreWriter, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        extract(writer, worker_slice=WorkerSlice(number=1, of=2))
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith("5 of 5 rows to extract in 5 shards; 0.00 GB before compression, ")
    assert "MB per row" in second
    assert "h if all 2 workers are as fast" in second
    assert "GB in all" in second


def test_a_disk_that_cannot_hold_the_rest_stops_the_run_after_the_first_shard(
    writer: StoreWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=4096))
    with pytest.raises(CacheError, match=r"cannot hold the rest: [34] rows are left"):
        extract(writer)
    assert 1 <= 5 - len(writer.pending()) <= 3
    with pytest.raises(CacheError, match="cannot hold the rest"):  # at once, this time
        extract(writer)


def test_backbones_that_change_are_noticed_at_the_end(
    writer: StoreWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_first(monkeypatch, lambda _: monkeypatch.setattr(Backbones, "state", "b"))
    with pytest.raises(FrozenError, match="img_backbone changed while extracting"):
        extract(writer)


def test_a_finished_store_starts_no_loader(writer: StoreWriter) -> None:
    extract(writer)
    extract(writer, workers=0)
    assert not open_store(writer.store.path).ledger.complete() - set(range(5))
