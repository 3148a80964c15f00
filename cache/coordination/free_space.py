"""Whether the rest of a store fits on its disk, estimated from the shards that are complete."""

import errno
import logging
from dataclasses import dataclass

from cache.coordination.ledger import EntryError
from cache.coordination.store import Store
from cache.format.schema import row_bytes
from shared.errors import CacheError

# Rows differ: five real frames of r50_800x320 by 1.3% from their mean; and a store has small files
# besides.
MARGIN = 0.05
MEASURED_SHARDS = 64  # ledger entries read, spread over the store; a large store has 20,000
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class FreeSpace:
    """What is left to write, and the space for it.

    Args:
        rows_left: of the whole store.
        raw_row_bytes: bytes of an uncompressed row.
        row_bytes: bytes of a row on disk as measured; None before the first shard.
        free_bytes: of the disk; None for object storage, which does not say.
    """

    rows_left: int
    raw_row_bytes: int
    row_bytes: float | None
    free_bytes: int | None

    @property
    def free(self) -> str:
        """The free bytes, for messages."""
        if self.free_bytes is None:
            return "free space not known on object storage"
        return f"{self.free_bytes / 1e9:.2f} GB free"

    @property
    def needed_bytes(self) -> float:
        """Bytes still to be written; uncompressed where nothing was measured yet."""
        return self.rows_left * (self.raw_row_bytes if self.row_bytes is None else self.row_bytes)


def measure_free_space(store: Store) -> FreeSpace:
    """Read the ledger and ask the disk."""
    complete = store.ledger.complete()
    return FreeSpace(
        rows_left=store.layout.rows - store.rows_in(complete),
        raw_row_bytes=row_bytes(store.arrays),
        row_bytes=measured_row_bytes(store),
        free_bytes=store.path.free_bytes(),
    )


def measured_row_bytes(store: Store) -> float | None:
    """Return the bytes of a row on disk according to the ledger; None if it has no entry yet."""
    complete = sorted(store.ledger.complete() & frozenset(store.all_shards))
    rows = size = 0
    for shard in complete[:: -(-len(complete) // MEASURED_SHARDS) or 1]:
        try:
            entry = store.entry(shard)
        except EntryError as error:
            _log.warning("%s; repair it with `feature-cache verify %s --repair`", error, store.path)
            continue
        rows += len(entry.tokens)
        size += entry.bytes_on_disk
    return size / rows if rows else None


def require_free_space(store: Store) -> FreeSpace:
    """Make sure that the disk can hold the rest, once a shard has been measured.

    Object storage does not say how much it can hold, so nothing is checked there.

    Raises:
        CacheError: if the rest does not fit, with a margin of `MARGIN`.
    """
    space = measure_free_space(store)
    needed = space.needed_bytes * (1 + MARGIN)
    if space.row_bytes is None or space.free_bytes is None:
        return space
    if needed > space.free_bytes:
        raise CacheError(
            f"the disk of {store.path} cannot hold the rest: {space.rows_left} rows are left at "
            f"{space.row_bytes / 1e6:.3g} MB each as measured, so {needed / 1e9:.4g} GB are needed "
            f"with a margin of {MARGIN:.0%}, and {space.free_bytes / 1e9:.4g} GB are free. Free "
            f"{(needed - space.free_bytes) / 1e9:.4g} GB and run the same command again (finished "
            "shards are kept), or choose a --store on a larger disk"
        )
    return space


def explain_failed_write(store: Store, index: int, error: OSError) -> CacheError:
    """Return the error to raise when a shard could not be written."""
    space = measure_free_space(store) if error.errno in DISK_FULL else None
    if space is None or space.free_bytes is None:
        return CacheError(
            f"cannot write shard {index} of {store.path}: {error}. Run the same command again when "
            "this is resolved; finished shards are kept."
        )
    basis = "as measured on the finished shards"
    if space.row_bytes is None:
        basis = "at most, before compression"
    missing = space.needed_bytes - space.free_bytes
    remedy = f"Free {missing:.0f} bytes" if missing > 0 else "A quota may be the limit: raise it"
    return CacheError(
        f"the disk is full at shard {index} of {store.path}: {space.rows_left} rows are left, "
        f"{space.needed_bytes:.0f} bytes {basis}, and {space.free_bytes} bytes are free. {remedy} "
        "and run the same command again; finished shards are kept."
    )
