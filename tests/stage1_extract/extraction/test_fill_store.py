"""Loading, computing and writing side by side change only the time that it takes."""

import errno
import json
import logging
import os
import re
import shutil
import signal
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import stage1_extract.extraction.fill_store
import stage1_extract.extraction.stages.raw_loader
from cache.coordination.claims import Claims, WorkerSlice
from cache.coordination.store import open_store
from cache.reader import CachedFeatures
from cache.verification.verify_store import verify
from cache.writer import StoreWriter
from shared.config.preset_catalogue import tiny
from shared.data.features import FrameFeatures
from shared.errors import CacheError, DatasetError, FrozenError, InterruptedWorkError
from stage1_extract.backbones.live import RawBatch
from stage1_extract.extraction.fill_store import fill_store
from stage1_extract.extraction.stages.shard_writers import ShardWriters
from tests.cache.conftest import TOKENS, fill, make_features, make_writer, with_map

Rows = list[FrameFeatures]


class Backbones:
    """Stands in for `FrozenBackbones`, of which only preset, device and digests are used here."""

    state = "a"
    preset = tiny()
    device = torch.device("cpu")

    def digests(self) -> dict[str, str]:
        return {"img_backbone": self.state}


class Live:
    """Stands in for `LiveFeatures`: the rows that the cache tests write, as if computed now."""

    def __init__(self, _: object, frozen: Backbones, *__: object) -> None:
        self.raw = self
        self.frozen = frozen

    def __len__(self) -> int:
        return len(TOKENS)

    def __getitem__(self, place: tuple[int, int]) -> FrameFeatures:
        return make_features(TOKENS[place[1]], variant=place[0])

    def run(self, raw: Rows) -> Rows:
        return raw

    def maps(self, batch: RawBatch) -> dict[str, torch.Tensor]:
        rows = self.run(list(batch.rows))  # type: ignore[arg-type]
        return {
            name: torch.from_numpy(np.stack([row.maps[name] for row in rows]))
            for name in rows[0].maps
        }


def join(raw: Rows, **_: object) -> RawBatch:
    return RawBatch(rows=tuple(raw), images=None, voxels=None)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage1_extract.extraction.fill_store, "LiveFeatures", Live)
    monkeypatch.setattr(stage1_extract.extraction.stages.raw_loader, "join_raw", join)
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


def statistics_taken_from(contents: dict[str, Any]) -> dict[str, Any]:
    """Remove the statistics of every ledger entry from the contents of a store; return them."""
    return {
        name: content.pop("statistics")
        for name, content in contents.items()
        if isinstance(content, dict)
    }


@pytest.mark.parametrize("codec", ["zstd-1-shuffle", "uint8-zstd-1"])
@pytest.mark.parametrize("rows_per_shard", [1, 2, 5])
def test_the_pipeline_and_plain_writing_make_identical_stores(
    tmp_path: Path, rows_per_shard: int, codec: str
) -> None:
    """Only statistics may differ, in the last digits: NumPy and torch add in another order."""
    options: dict[str, Any] = {"rows_per_shard": rows_per_shard, "variants": 2, "codec": codec}
    plain = make_writer(tmp_path / "plain", **options)
    fill(plain)
    extract(make_writer(tmp_path / "piped", **options))
    piped_files, plain_files = (without_times(tmp_path / name) for name in ("piped", "plain"))
    piped, expected = map(statistics_taken_from, (piped_files, plain_files))
    assert piped_files == plain_files
    assert len(piped) == len(plain.shards)
    for name, by_map in piped.items():
        for feature_map, statistics in by_map.items():
            assert statistics == pytest.approx(expected[name][feature_map], rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("batch_size", [2, 100])
@pytest.mark.parametrize("writers", [1, 3])
def test_batch_size_and_threads_change_no_byte(
    tmp_path: Path, batch_size: int, writers: int
) -> None:
    options: dict[str, Any] = {"rows_per_shard": 3, "variants": 2}
    extract(make_writer(tmp_path / "single", **options))
    extract(make_writer(tmp_path / "batches", **options), batch_size=batch_size, writers=writers)
    assert without_times(tmp_path / "batches") == without_times(tmp_path / "single")


def test_rows_are_computed_while_others_are_written_until_memory_is_full(
    writer: StoreWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two shards of one row and a writing thread: three rows."""
    honest, events = StoreWriter.write_encoded, []
    honest_check, is_full = ShardWriters.check, threading.Event()

    def slow(self: StoreWriter, shard: Any, *args: Any, **options: Any) -> bool:
        if shard.index == 0:
            assert is_full.wait(60)  # shards 1 and 2 are computed meanwhile
            events.append("written 0")
        return honest(self, shard, *args, **options)

    def run(raw: Rows) -> None:
        events.append(raw[0].frame.token)

    def tell(self: ShardWriters) -> None:
        if "cow" in events:
            is_full.set()
        honest_check(self)

    monkeypatch.setattr(StoreWriter, "write_encoded", slow)
    monkeypatch.setattr(ShardWriters, "check", tell)
    run_first(monkeypatch, run)
    extract(writer, writers=1)
    assert events == ["ant", "bee", "cow", "written 0", "dog", "elk"]


@pytest.mark.parametrize("writers", [1, 2, 8])
def test_the_rows_of_two_shards_and_one_per_thread_are_in_memory_at_most(
    tmp_path: Path, writers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[weakref.ref[Any]] = []
    most = 0

    def run(raw: Rows) -> None:
        nonlocal most
        alive.extend(weakref.ref(row.maps["lidar/stride8"]) for row in raw)
        most = max(most, sum(reference() is not None for reference in alive))

    run_first(monkeypatch, run)
    extract(make_writer(tmp_path / "long", rows_per_shard=2, variants=4), writers=writers)
    assert len(alive) == 20
    assert 2 < most <= 2 * 2 + writers + writers  # a thread forgets its last row a little later


@pytest.mark.parametrize("failing", [0, 2, 4])
def test_a_full_disk_in_the_writer_stops_the_run_and_keeps_finished_shards(
    writer: StoreWriter, failing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, computed = os.fsync, []
    check, is_noticed = ShardWriters.check, threading.Event()

    def full(descriptor: int) -> None:
        name = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        shard = re.search(r"c\.0\.(\d+)\.", name)
        if shard is not None and int(shard[1]) == failing:
            raise OSError(errno.ENOSPC, "No space left on device")
        if shard is not None and int(shard[1]) > failing:
            is_noticed.wait(10)  # else these could finish, and free memory, before it is noticed
        honest(descriptor)

    def noticed(writers: ShardWriters) -> None:
        if writers._errors:
            is_noticed.set()
        check(writers)

    def run(raw: Rows) -> None:
        computed.append(raw)
        if len(computed) == len(TOKENS):
            is_noticed.set()  # nothing is left to stop

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        patch.setattr(ShardWriters, "check", noticed)
        run_first(patch, run)
        with pytest.raises(CacheError, match=f"the disk is full at shard {failing} of"):
            extract(writer)
    left = [shard.index for shard in writer.pending()]
    assert left[0] == failing  # later shards that were computed by then are finished
    assert len(computed) <= failing + 4  # promptly: with two threads memory holds four rows
    left_over = {file.suffix for file in Path(str(writer.store.path)).rglob("*")}
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
        CacheError, match=r"lidar/stride8 of sample ant, variant 0: largest magnitude is 70000, "
    ):
        extract(writer, writers=1)
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

    def broken(self: StoreWriter, *_: object, **__: object) -> bool:
        failed.wait(10)
        raise CacheError("the disk is full")

    def run(raw: Rows) -> None:
        if raw[0].frame.token == "bee":
            failed.set()
            raise DatasetError("image bee cannot be read")

    monkeypatch.setattr(StoreWriter, "write_encoded", broken)
    run_first(monkeypatch, run)
    with pytest.raises(DatasetError):
        extract(writer)
    assert "a shard that was being written is lost as well: the disk is full" in caplog.text


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
    first, widths, second, rates = (record.getMessage() for record in caplog.records)
    assert first.startswith("5 of 5 rows to extract in 5 shards; 0.00 GB before compression, ")
    assert re.fullmatch(
        r"loading in a thread, batches of 1, writing in (\d+) threads; at most \d+ computed rows "
        r"in memory \(0.00 GB\)",
        widths,
    )
    assert re.search(r"loading .+/s, computing .+/s, writing .+/s; \w+ is the limit$", rates)
    assert "MB per row" in second
    assert "; about 0 s if all 2 workers are as fast" in second
    assert "GB in all" in second


def test_a_disk_that_cannot_hold_the_rest_stops_the_run_after_the_first_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = make_writer(tmp_path / "long", rows_per_shard=1, variants=4)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=4096))
    with pytest.raises(CacheError, match=r"cannot hold the rest: \d+ rows are left"):
        extract(writer, writers=1)
    assert 1 <= 20 - len(writer.pending()) <= 4  # memory holds three rows
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
