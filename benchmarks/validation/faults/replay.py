"""A writer without backbones: copies features from one store to a new one.

    python -m benchmarks.validation.faults.replay SOURCE TARGET --slice 2/4 --processes 2

It uses the same claims, threads or processes, files and ledger as `extract-features`, but starts in
half a second instead of eight, so that hundreds of kills are affordable. One row per shard.
"""

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from cache.coordination.claims import Claims, WorkerSlice, shards_to_do
from cache.coordination.null_store import null_path, open_null
from cache.coordination.store import open_store
from cache.create import StoreSpec, open_or_create
from cache.reader import CachedFeatures
from cache.writer import StoreWriter
from shared.data.features import FrameFeatures
from shared.process.command import run_command
from stage1_extract.extraction.stages.row_sink import row_sink
from stage1_extract.extraction.stages.shard_writers import ShardWriters
from stage1_extract.extraction.stages.stage_rates import STAGES, StageRates
from stage1_extract.extraction.stages.stage_widths import Widths

THREADS = 2
READY = "rows to extract"  # `extract-features` also prints this before it begins


def replay(source: Path, target: Path, share: WorkerSlice, processes: int) -> None:
    """Write every row that is neither written nor claimed, the null features first.

    Args:
        source: a finished store.
        target: the store to fill; created if there is none.
        share: the slice to begin with.
        processes: that write; 0 writes in threads.
    """
    writer = _open(source, target)
    null = open_null(open_store(source))
    if null is not None:
        _write(null.path, _open(null.path, null_path(target)), WorkerSlice(), 0)
    print(len(writer.pending()), READY, file=sys.stderr, flush=True)
    _write(source, writer, share, processes)


def _open(source: Path, target: Path) -> StoreWriter:
    """Create a store like the source, or open it to resume."""
    original = open_store(source)
    metadata = original.metadata
    spec = StoreSpec(
        preset=metadata.preset,
        identity=metadata.identity,
        samples=original.samples,
        max_boxes=metadata.max_boxes,
        provenance=metadata.provenance,
        codec=metadata.codec,
        shard_bytes=1,
    )
    return open_or_create(target, spec)


class StoredRows:
    """Stands in for a computed batch: rows of another store, or made up."""

    def __init__(self, rows: Sequence[FrameFeatures]) -> None:
        self._rows, self.samples = rows, len(rows)

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, index: int) -> FrameFeatures:
        """Return a row."""
        return self._rows[index]

    def seconds(self) -> float:
        """Return 0: nothing was computed."""
        return 0.0


def _write(source: Path, writer: StoreWriter, share: WorkerSlice, processes: int) -> None:
    features, claims = CachedFeatures(source), Claims(writer.store)
    rates = StageRates(dict.fromkeys(STAGES, 1))
    widths = Widths(loaders=processes, writers=processes, threads=THREADS, rows=2 + THREADS)
    with ExitStack() as stack:
        sink = row_sink(writer, widths, stack)
        shard_writers = stack.enter_context(ShardWriters(sink, claims, widths, rates=rates))
        for shard in shards_to_do(writer.store, share, claims):
            rows = features.read(shard.tokens, shard.variant)
            numbers = shard_writers.reserve(len(rows), meanwhile=shard_writers.check)
            shard_writers.submit(shard, StoredRows(rows), numbers)


def fill_disk_after(syncs: int) -> None:
    """Simulate a disk that is full after some `fsync` calls, where nothing can be mounted."""
    honest, done = os.fsync, iter(range(syncs))

    def full(descriptor: int) -> None:
        if next(done, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        honest(descriptor)

    os.fsync = full


def main(argv: list[str] | None = None) -> int:
    """Run one writer."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.validation.faults.replay")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--slice", default="1/1")
    parser.add_argument("--processes", type=int, default=0, help="that write")
    parser.add_argument("--full-after", type=int, help="fsyncs until the disk is full")
    args = parser.parse_args(argv)
    if args.full_after is not None:
        fill_disk_after(args.full_after)
    number, of = map(int, args.slice.split("/"))
    share = WorkerSlice(number=number, of=of)
    return run_command(lambda: replay(args.source, args.target, share, args.processes))


if __name__ == "__main__":
    sys.exit(main())
