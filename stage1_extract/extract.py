"""Fill a feature store: every pending shard through the frozen backbones, one after the other."""

import logging
import time
from collections.abc import Iterator, Sequence

from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from cache.layout import Shard
from cache.writer import StoreWriter
from shared.errors import FrozenError, InterruptedWorkError
from shared.features import FrameFeatures
from shared.interrupts import Interrupts
from stage1_extract.frozen import FrozenBackbones
from stage1_extract.live import LiveFeatures, RawFrame
from stage1_extract.records import SampleRecord

log = logging.getLogger(__name__)


def fill_store(
    writer: StoreWriter,
    records: Sequence[SampleRecord],
    frozen: FrozenBackbones,
    *,
    batch_size: int = 1,
    workers: int = 0,
) -> None:
    """Extract the shards that have no ledger entry.

    Batches start anew in every shard, so a resumed run computes the very batches that an
    undisturbed one does.

    Args:
        writer: the store.
        records: every sample of the store, in its order.
        frozen: backbones with their weights.
        batch_size: samples per forward.
        workers: processes that load raw files.

    Raises:
        DatasetError: if a raw file is missing or broken; finished shards are kept.
        CacheError: if a value cannot be stored or the disk is full; finished shards are kept.
        FrozenError: if the backbones are not what they were at the start.
        InterruptedWorkError: on Ctrl-C or SIGTERM.
    """
    before = frozen.digests()
    live = LiveFeatures(records, frozen)
    pending = writer.pending()
    total = sum(len(shard.tokens) for shard in pending)
    bar = tqdm(total=total, unit="sample", disable=None)
    started = time.monotonic()
    with Interrupts() as interrupts, bar:
        for done, shard in enumerate(pending):
            rows: list[FrameFeatures] = []
            for raw in _raw_batches(live, shard, batch_size, workers):
                if interrupts.signum is not None:
                    raise InterruptedWorkError(
                        f"{done} of {len(pending)} pending shards were finished and are kept; run "
                        "the same command again to go on",
                        interrupts.signum,
                    )
                rows += live.run(raw)
                bar.update(len(raw))
            writer.write_shard(shard, rows)
            if done == 0 and len(pending) > 1:
                each_s = (time.monotonic() - started) / len(rows)
                left_h = each_s * (total - len(rows)) / 3600
                log.info("%.2f s per sample, about %.2f h for the rest", each_s, left_h)
    after = frozen.digests()
    changed = [name for name in before if before[name] != after[name]]
    if changed:
        raise FrozenError(
            f"{', '.join(changed)} changed while extracting: a parameter or buffer of the frozen "
            "part was written to. The shards of this run cannot be trusted; use a new --store"
        )


def _raw_batches(
    live: LiveFeatures, shard: Shard, batch_size: int, workers: int
) -> Iterator[list[RawFrame]]:
    """Load the raw samples of a shard in batches, ahead of their use if there are workers."""
    yield from DataLoader(
        Subset(live.raw, range(shard.start, shard.start + len(shard.tokens))),
        batch_size=batch_size,
        collate_fn=list,
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
    )
