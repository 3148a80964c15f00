"""Writer processes: the bytes of threads, their errors, and memory that is used again."""

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.validation.faults.replay import StoredRows
from cache.coordination.claims import Claims
from cache.format.layout import Shard
from cache.reader import CachedFeatures
from cache.storage.object_storage import object_path
from cache.verification.verify_store import verify
from cache.writer import StoreWriter
from shared.data.features import FrameFeatures, as_floats
from shared.errors import CacheError
from stage1_extract.extraction.stages.process_pool import NICENESS, ProcessPool
from stage1_extract.extraction.stages.row_memory import RowMemory
from stage1_extract.extraction.stages.shard_writers import (
    EncodingThreads,
    RowSink,
    ShardWriters,
)
from stage1_extract.extraction.stages.stage_rates import STAGES, StageRates
from stage1_extract.extraction.stages.stage_widths import Widths
from stage1_extract.extraction.stages.writer_processes import WriterProcesses
from tests.cache.conftest import make_features, make_writer, with_map
from tests.child_processes import PATIENCE_S
from tests.small_disk import small_disk
from tests.stage1_extract.extraction.pool_tasks import niceness, nothing, raise_in_two_parts
from tests.stage1_extract.extraction.test_fill_store import without_times

PROCESSES, SLOTS = 2, 3
WIDTHS = Widths(loaders=PROCESSES, writers=PROCESSES, threads=3, rows=2 * SLOTS)
MIB = 2**20
HANGS_S = 20  # until a test gives up
LEFT = 30 * 4096  # bytes on the full disk: for two shards, whose files have a page or two each


def float16(row: FrameFeatures) -> FrameFeatures:
    maps = {name: as_floats(values).astype(np.float16) for name, values in row.maps.items()}
    return replace(row, maps=maps)


def rows_of(shard: Shard) -> list[FrameFeatures]:
    return [float16(make_features(token, variant=shard.variant)) for token in shard.tokens]


def write(sink: RowSink[Any], writer: StoreWriter, widths: Widths = WIDTHS) -> StageRates:
    rates = StageRates(dict.fromkeys(STAGES, 1))
    with ShardWriters(sink, Claims(writer.store), widths, rates=rates) as writers:
        for shard in writer.pending():
            rows = rows_of(shard)
            numbers = writers.reserve(len(rows), meanwhile=writers.check)
            writers.submit(shard, StoredRows(rows), numbers)
        writers.finish()
        writers.check()
    return rates


@pytest.fixture
def writer(tmp_path: Path) -> StoreWriter:
    """An empty store of four shards."""
    return make_writer(tmp_path / "processes", rows_per_shard=SLOTS, variants=2)


@pytest.fixture
def processes(writer: StoreWriter) -> Iterator[WriterProcesses]:
    with WriterProcesses(writer.store, WIDTHS) as sink:
        yield sink


@pytest.mark.parametrize("codec", ["zstd-1-shuffle", "uint8-zstd-1"])
def test_processes_write_the_bytes_of_threads_though_places_are_used_again(
    tmp_path: Path, codec: str
) -> None:
    stores = [
        make_writer(tmp_path / name, rows_per_shard=SLOTS, variants=4, codec=codec)
        for name in ("threads", "processes")
    ]
    write(EncodingThreads(stores[0]), stores[0])
    with WriterProcesses(stores[1].store, WIDTHS) as sink:
        rates = write(sink, stores[1])
    expected, ours = (without_times(store.store.path) for store in stores)  # type: ignore[arg-type]
    assert ours == expected
    assert CachedFeatures(stores[1].store.path).is_complete()
    assert rates.per_second()["writing"] > 0


def test_processes_write_to_object_storage(s3: str) -> None:
    writer = make_writer(object_path(f"{s3}/train.zarr"), rows_per_shard=SLOTS)
    with WriterProcesses(writer.store, WIDTHS) as sink:
        write(sink, writer)
    assert not writer.pending()
    assert not verify(writer.store).damages


def test_an_unfit_row_is_the_error_of_a_thread_and_its_shard_is_not_written(
    writer: StoreWriter, processes: WriterProcesses
) -> None:
    shard = writer.pending()[0]
    bad = np.full((2, 4, 4), np.inf, np.float16)
    rows = [with_map(row, "lidar/stride8", bad) for row in rows_of(shard)]
    placed = [processes.put(number, row) for number, row in enumerate(rows)]
    with pytest.raises(CacheError, match=r"lidar/stride8 of sample ant, variant 0: largest mag"):
        processes.write(shard, placed, 0.0)
    assert shard in writer.pending()


def test_a_process_that_dies_is_an_error_that_says_what_to_do(
    writer: StoreWriter, processes: WriterProcesses
) -> None:
    first, second, *_ = writer.pending()
    processes.write(first, [processes.put(i, row) for i, row in enumerate(rows_of(first))], 0.0)
    for process in processes._pool._context.processes:
        process.kill()
        process.join()
    with pytest.raises(CacheError, match=r"writes shards died.*shards are kept.*--workers"):
        processes.write(second, [processes.put(i, row) for i, row in enumerate(rows_of(second))], 0)
    assert first not in writer.pending()
    assert not verify(writer.store).damages


def test_the_second_signal_waits_for_no_process_that_hangs(writer: StoreWriter) -> None:
    shard, rates = writer.pending()[0], StageRates(dict.fromkeys(STAGES, 1))
    with suppress(KeyboardInterrupt), WriterProcesses(writer.store, WIDTHS) as sink:
        numbers = [process.pid for process in sink._pool._context.processes]
        for number in numbers:
            os.kill(number, signal.SIGSTOP)  # type: ignore[arg-type]
        given_up = threading.Timer(HANGS_S, os.kill, (numbers[0], signal.SIGKILL))
        given_up.start()
        with ShardWriters(sink, Claims(writer.store), WIDTHS, rates=rates) as writers:
            rows = rows_of(shard)
            writers.submit(shard, StoredRows(rows), range(len(rows)))
            raise KeyboardInterrupt  # as `Interrupts` does
    assert given_up.is_alive()
    given_up.cancel()
    assert shard in writer.pending()


def test_what_ends_all_processes_is_said_once_more_at_most(
    writer: StoreWriter, caplog: pytest.LogCaptureFixture
) -> None:
    widths = replace(WIDTHS, threads=4, rows=4 * SLOTS)
    with WriterProcesses(writer.store, widths) as sink:
        for process in sink._pool._context.processes:
            process.kill()
        with pytest.raises(CacheError, match="writes shards died") as caught:
            write(sink, writer, widths)
    assert len(writer.pending()) == 4
    assert [record.message for record in caplog.records if "lost as well" in record.message] == [
        "a shard that was being written is lost as well: " + str(caught.value)
    ]


def test_a_full_disk_is_explained_and_survived(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", MIB) as disk:
        writer, ballast = (
            make_writer(disk / "store", rows_per_shard=SLOTS, variants=2),
            disk / "big",
        )
        ballast.write_bytes(bytes(shutil.disk_usage(disk).free - LEFT))
        with (
            WriterProcesses(writer.store, WIDTHS) as sink,
            pytest.raises(CacheError, match="the disk is full at shard"),
        ):
            write(sink, writer)
        assert not [*disk.rglob("*.partial")]
        assert 0 < len(writer.pending()) < 4
        ballast.unlink()
        with WriterProcesses(writer.store, WIDTHS) as sink:
            write(sink, writer)
        assert not verify(writer.store).damages
        assert not writer.pending()


def test_a_place_holds_the_maps_of_its_row_and_leaves_the_others_alone(
    writer: StoreWriter,
) -> None:
    memory = RowMemory(writer.store.arrays, 3)
    rows = [float16(make_features(token)) for token in ("ant", "bee", "cow")]
    for number, row in enumerate(rows):
        memory.put(number, row.maps)
    memory.put(1, rows[2].maps)
    for number, row in enumerate((rows[0], rows[2], rows[2])):
        maps = memory.maps(number)
        assert maps.keys() == row.maps.keys()
        for name, values in maps.items():
            assert values.dtype == np.float16
            assert np.array_equal(values, as_floats(row.maps[name]))
    memory.close_file()


def test_a_pool_ends_its_own_processes_and_no_others() -> None:
    first, second = ProcessPool(1, nothing), ProcessPool(1, nothing)
    number = first.submit(os.getpid).result(PATIENCE_S)
    other = second.submit(os.getpid).result(PATIENCE_S)
    first.close()
    assert not Path(f"/proc/{number}").exists()
    assert second.submit(os.getpid).result(PATIENCE_S) == other
    second.close()


def test_the_computing_thread_comes_before_the_processes() -> None:
    pool = ProcessPool(1, nothing)
    assert pool.submit(niceness).result(PATIENCE_S) == min(19, niceness() + NICENESS)
    pool.close()


def test_an_error_that_cannot_be_sent_still_says_what_it_was() -> None:
    pool = ProcessPool(1, nothing)
    with pytest.raises(RuntimeError, match="TwoPartsError: dark by night") as caught:
        pool.submit(raise_in_two_parts).result(PATIENCE_S)
    assert "in raise_in_two_parts" in str(caught.value.__cause__)
    assert pool.submit(os.getpid).result(PATIENCE_S)
    pool.close()


def test_all_processes_start_at_once_when_asked() -> None:
    pool = ProcessPool(3, nothing)
    pool.start()
    assert len(pool._context.processes) == 3
    pool.close()
