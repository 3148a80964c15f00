"""Fills a feature store shard by shard with the frozen backbones, alongside other workers.

Three stages side by side: `raw_loader` loads, the loop here computes (`device_pass`), and
`shard_writers` encodes and writes. The first and the last do their work in processes, or in threads
where computing takes dozens of times as long. `stage_rates` knows which stage limits the others.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

from threadpoolctl import threadpool_limits

from cache.coordination.claims import Claims, WorkerSlice, shards_to_do
from cache.format.layout import Shard
from cache.format.schema import row_bytes
from cache.writer import StoreWriter
from shared.config.augmentation import VariantDraws
from shared.errors import FrozenError, InterruptedWorkError
from shared.process.cores import core_share
from shared.process.interrupts import Interrupts
from stage1_extract.backbones.frozen import FrozenBackbones
from stage1_extract.backbones.live import LiveFeatures, RawBatch
from stage1_extract.backbones.sensor_rows import SensorRows
from stage1_extract.extraction.forecast import Forecast
from stage1_extract.extraction.stages.announce_widths import announce_widths
from stage1_extract.extraction.stages.device_pass import ComputedBatch, DevicePass
from stage1_extract.extraction.stages.raw_loader import Planned, RawLoader
from stage1_extract.extraction.stages.row_sink import row_sink
from stage1_extract.extraction.stages.shard_writers import ShardWriters
from stage1_extract.extraction.stages.stage_rates import StageRates
from stage1_extract.extraction.stages.stage_widths import choose_widths, loader_processes
from stage1_extract.nuscenes.records import SampleRecord

log = logging.getLogger(__name__)

ONE_WORKER = WorkerSlice()


def fill_store(
    writer: StoreWriter,
    records: Sequence[SampleRecord],
    frozen: FrozenBackbones,
    *,
    batch_size: int = 1,
    workers: int | None = None,
    writers: int | None = None,
    worker_slice: WorkerSlice = ONE_WORKER,
    draws: VariantDraws | None = None,
    sensor_rows: SensorRows | None = None,
    on_written: Callable[[Shard], None] = lambda _: None,
) -> StageRates:
    """Extract the shards that have no ledger entry and that no other worker has claimed.

    Every shard starts a new batch, so a resumed run computes the same batches as an undisturbed
    one; shards hold whole batches (`slots_per_shard`).

    Memory holds at most `choose_widths(...).rows` from the moment they are computed until their
    shard is written, in float16 or compressed: 22 rows or 0.55 GB of `r50_800x320` with two threads
    that write, 36 rows or 0.9 GB with 16, and 112 rows or 2.8 GB with 12 processes in batches of 8,
    where as many more may wait to be copied to the processes. Besides, every thread has what it
    needs for the largest map of a row (its compressed copy, and where the codec quantises two
    float32 copies), or every process a compressed shard. What malloc keeps between them, up to a
    sixth with two threads, and loading (`RawLoader`) come on top.

    The processes are spawned, so a script that calls this needs the usual `__main__` guard.

    Args:
        writer: the store.
        records: all samples of the store, in its order.
        frozen: backbones with their weights.
        batch_size: samples per forward on a GPU, where short batches are padded. On a CPU always 1:
            larger batches gain nothing there, and would change the last bits.
        workers: processes that load raw files, beside which others write; 0 loads in a thread, and
            writes in threads. By default see `loader_processes`.
        writers: threads or processes that encode and write. By default see `choose_widths`.
        worker_slice: the shards to begin with.
        draws: how variants are drawn; None for a store of variant 0 only.
        sensor_rows: for a store inside a delta, what computes its rows; `records` and `draws` are
            not used then.
        on_written: see `ShardWriters`.

    Returns:
        What each stage could do, had it not waited for the others.

    Raises:
        DatasetError: if a raw file is missing or damaged; finished shards are kept.
        CacheError: if a value cannot be stored or the disk is full; finished shards are kept.
        FrozenError: if the backbones changed during the run.
        InterruptedWorkError: on Ctrl-C or SIGTERM.
    """
    before = frozen.digests()
    is_cpu = frozen.device.type == "cpu"
    batch_size = 1 if is_cpu else batch_size
    store, cores = writer.store, core_share()
    most_per_sample = 1 if sensor_rows is None else sensor_rows.most_per_sample
    if workers is None:
        left = store.rows_in(frozenset(store.all_shards) - store.ledger.complete())
        workers = loader_processes(frozen.device, left // most_per_sample // worker_slice.of, cores)
    widths = choose_widths(
        workers,
        cores,
        slots=store.layout.slots,
        batch_rows=batch_size * most_per_sample,
        writers=writers,
    )
    rates = StageRates({"loading": max(1, workers), "computing": 1, "writing": widths.writers})
    claims, forecast = Claims(store), Forecast(store, worker_slice, rates)
    live = LiveFeatures(records, frozen, draws) if sensor_rows is None else sensor_rows.live
    loader = RawLoader(
        live,
        planned_batches(shards_to_do(store, worker_slice, claims), batch_size, sensor_rows),
        batch_size=batch_size,
        workers=workers,
        is_padded=not is_cpu,
        rates=rates,
    )
    announce_widths(
        widths,
        batch_size=batch_size,
        loaded_bytes=loader.most_bytes,
        slots=store.layout.slots,
        row_bytes=row_bytes(store.arrays),
    )
    with forecast.bar, Interrupts() as interrupts, ExitStack() as stack:
        # NumPy's BLAS would use all cores for points that a condition moves, where a thread loads.
        stack.enter_context(threadpool_limits(1, "blas"))
        sink = row_sink(writer, widths, stack)
        shard_writers = stack.enter_context(
            ShardWriters(sink, claims, widths, rates=rates, on_written=on_written)
        )
        stack.enter_context(loader)

        def check() -> None:
            shard_writers.check()
            forecast.written(shard_writers.finished)
            _stop_if_asked(interrupts, shard_writers, writer)

        split = None if sensor_rows is None else sensor_rows.split
        device_pass = DevicePass(live, split)
        compute_batches(device_pass, loader, shard_writers, forecast.computed, check, sensor_rows)
        shard_writers.finish()
        check()
    if summary := str(rates):  # empty if nothing was left to do
        log.info("samples/s that each stage could do: %s", summary)
    require_unchanged(before, frozen.digests())
    return rates


def compute_batches(
    device_pass: Callable[[RawBatch], ComputedBatch],
    loader: RawLoader,
    shard_writers: ShardWriters[Any],
    computed_rows: Callable[[int], None],
    check: Callable[[], None],
    sensor_rows: SensorRows | None = None,
) -> None:
    """Take every batch from the loader through the backbones to the writers.

    Args:
        device_pass: computes a batch.
        loader: loads the batches.
        shard_writers: take what was computed.
        computed_rows: told how many rows a batch had.
        check: called several times a second; whatever it raises ends the work.
        sensor_rows: the rows of a delta's store; None if a sample is a row.
    """
    for loaded in loader.batches(meanwhile=check):
        check()
        rows = len(loaded.raw.rows) if sensor_rows is None else sensor_rows.count(loaded.raw)
        numbers = shard_writers.reserve(rows, meanwhile=check)
        computed = device_pass(loaded.raw)
        shard_writers.submit(loaded.shard, computed, numbers)
        computed_rows(len(computed))
        check()  # before the next batch is waited for


def planned_batches(
    shards: Iterable[Shard], batch_size: int, sensor_rows: SensorRows | None = None
) -> Iterator[Planned]:
    """Yield batches of (variant, sample), none of which spans two shards.

    Args:
        shards: taken one by one, only when the next batch is needed.
        batch_size: samples per batch; the last batch of a shard may have fewer.
        sensor_rows: says which samples give the rows of a shard; None if they are the rows.
    """
    for shard in shards:
        places = range(shard.start, shard.start + len(shard.tokens))
        if sensor_rows is not None:
            places = sensor_rows.places(shard)
        for start in range(0, len(places), batch_size):
            batch = places[start : start + batch_size]
            yield shard, [(shard.variant, sample) for sample in batch]


def require_unchanged(before: dict[str, str], after: dict[str, str]) -> None:
    """Compare digests of the frozen modules before and after they were used.

    Raises:
        FrozenError: if any has changed.
    """
    changed = [name for name in before if before[name] != after[name]]
    if changed:
        raise FrozenError(
            f"{', '.join(changed)} changed while extracting: a parameter or buffer of the frozen "
            "part was written to. The shards of this run cannot be trusted; use a new --store"
        )


def _stop_if_asked(
    interrupts: Interrupts, shard_writers: ShardWriters[Any], writer: StoreWriter
) -> None:
    """After a signal, finish the shards that are computed; the one being computed is dropped."""
    if interrupts.signum is None:
        return
    shard_writers.finish()
    left = len(writer.pending())
    if left:
        raise InterruptedWorkError(
            f"{shard_writers.finished} shards were finished and are kept, {left} of "
            f"{len(writer.shards)} are left; run the same command again to continue",
            interrupts.signum,
        )
