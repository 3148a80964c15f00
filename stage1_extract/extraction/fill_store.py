"""Fills a feature store shard by shard with the frozen backbones, alongside other workers."""

import contextlib
import logging
import signal
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing import resource_tracker

from torch.utils.data import DataLoader

from cache.coordination.claims import Claims, WorkerSlice, shards_to_do
from cache.format.layout import Shard
from cache.writer import StoreWriter
from shared.config.augmentation import VariantDraws
from shared.data.features import FrameFeatures
from shared.errors import FrozenError, InterruptedWorkError
from shared.process.interrupts import Interrupts
from stage1_extract.backbones.frozen import FrozenBackbones
from stage1_extract.backbones.live import LiveFeatures
from stage1_extract.extraction.background_writer import BackgroundWriter
from stage1_extract.extraction.forecast import Forecast
from stage1_extract.nuscenes.records import SampleRecord
from stage1_extract.preprocessing.raw_frames import RawFrame

log = logging.getLogger(__name__)

ONE_WORKER = WorkerSlice()


def fill_store(
    writer: StoreWriter,
    records: Sequence[SampleRecord],
    frozen: FrozenBackbones,
    *,
    batch_size: int = 1,
    workers: int = 0,
    worker_slice: WorkerSlice = ONE_WORKER,
    draws: VariantDraws | None = None,
) -> None:
    """Extract the shards that have no ledger entry and that no other worker has claimed.

    Every shard starts a new batch, so a resumed run computes the same batches as an undisturbed
    one. One shard is written while the next is computed, and a third is not begun: memory holds
    the rows of two shards in float32 and of one as stored. With F bytes of float32 maps and S
    stored bytes per shard that is 2 F + S: 1.25 GiB for shards of 256 MiB in float16 (F = 2 S),
    2.25 GiB in 8 bit (F = 4 S).

    Args:
        writer: the store.
        records: all samples of the store, in its order.
        frozen: backbones with their weights.
        batch_size: samples per forward.
        workers: processes that load raw files.
        worker_slice: the shards to begin with.
        draws: how variants are drawn; None for a store of variant 0 only.

    Raises:
        DatasetError: if a raw file is missing or damaged; finished shards are kept.
        CacheError: if a value cannot be stored or the disk is full; finished shards are kept.
        FrozenError: if the backbones changed during the run.
        InterruptedWorkError: on Ctrl-C or SIGTERM.
    """
    before = frozen.digests()
    claims, forecast = Claims(writer.store), Forecast(writer.store, worker_slice)
    batches = ShardBatches(shards_to_do(writer.store, worker_slice, claims), batch_size)
    live = LiveFeatures(records, frozen, draws)
    rows: list[FrameFeatures] = []
    with forecast.bar, Interrupts() as interrupts, BackgroundWriter(writer, claims) as background:
        for raw in _raw_batches(live, batches, workers):
            _stop_if_asked(interrupts, background, writer)
            background.check()
            rows += live.run(raw)
            forecast.computed(len(raw))
            forecast.written(background.finished)
            if len(rows) == len(batches.begun[0].tokens):
                background.write(batches.begun.popleft(), rows)
                rows = []
            _stop_if_asked(interrupts, background, writer)  # before the next batch is loaded
        background.wait()
    after = frozen.digests()
    changed = [name for name in before if before[name] != after[name]]
    if changed:
        raise FrozenError(
            f"{', '.join(changed)} changed while extracting: a parameter or buffer of the frozen "
            "part was written to. The shards of this run cannot be trusted; use a new --store"
        )


class ShardBatches:
    """Batches of (variant, sample), none of which spans two shards.

    Args:
        shards: taken one by one, only when the loader needs the next batch.
        batch_size: samples per batch; the last batch of a shard may have fewer.
    """

    def __init__(self, shards: Iterable[Shard], batch_size: int) -> None:
        self._shards = shards
        self._batch_size = batch_size
        self.begun: deque[Shard] = deque()  # in the order in which their batches come

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for shard in self._shards:
            self.begun.append(shard)
            end = shard.start + len(shard.tokens)
            for start in range(shard.start, end, self._batch_size):
                stop = min(start + self._batch_size, end)
                yield [(shard.variant, sample) for sample in range(start, stop)]


def _stop_if_asked(
    interrupts: Interrupts, background: BackgroundWriter, writer: StoreWriter
) -> None:
    """After a signal, finish the shard being written; the shard being computed is dropped."""
    if interrupts.signum is None:
        return
    background.wait()
    left = len(writer.pending())
    if left:
        raise InterruptedWorkError(
            f"{background.finished} shards were finished and are kept, {left} of "
            f"{len(writer.shards)} are left; run the same command again to continue",
            interrupts.signum,
        )


def _raw_batches(
    live: LiveFeatures, batches: ShardBatches, workers: int
) -> Iterator[list[RawFrame]]:
    """Load raw samples in batches, in advance if there are loader processes."""
    loader = DataLoader(
        live.raw,
        batch_sampler=batches,
        collate_fn=list,
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
    )
    with _children_without_signals():
        iterator = iter(loader)
    yield from iterator


@contextlib.contextmanager
def _children_without_signals() -> Iterator[None]:
    """Leave Ctrl-C and SIGTERM, which reach the whole process group, to the parent process."""
    resource_tracker.ensure_running()  # else the first child starts it, which lifts the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, Interrupts.SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
