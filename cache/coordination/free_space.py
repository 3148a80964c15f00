"""Whether the rest of a store fits on its disk, measured on the shards that are there."""

import errno
import logging
from dataclasses import dataclass

from cache.coordination.store import Store
from cache.format.schema import row_bytes
from cache.storage.location import free_bytes
from shared.errors import CacheError

# Rows differ: five real frames of r50_800x320 by 1.3% from their mean, and a store holds small
# files beside them.
MARGIN = 0.05
MEASURED_SHARDS = 64  # ledger entries looked at, spread over the store; a large one has 20,000
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class FreeSpace:
    """What is left to write, and where to.

    Args:
        rows_left: of the whole store.
        raw_row_bytes: of one row, uncompressed.
        row_bytes: the same as measured on disk; None before the first shard.
        free_bytes: of the disk; None for an object storage, which does not say.
    """

    rows_left: int
    raw_row_bytes: int
    row_bytes: float | None
    free_bytes: int | None

    @property
    def free(self) -> str:
        """The free bytes, for messages."""
        if self.free_bytes is None:
            return "free space not known on an object storage"
        return f"{self.free_bytes / 1e9:.2f} GB free"

    @property
    def needed_bytes(self) -> float:
        """Bytes that are still to be written; uncompressed where nothing was measured yet."""
        return self.rows_left * (self.raw_row_bytes if self.row_bytes is None else self.row_bytes)


def measure_free_space(store: Store) -> FreeSpace:
    """Look at the ledger and at the disk."""
    complete = store.ledger.complete()
    return FreeSpace(
        rows_left=store.layout.rows - store.rows_in(complete),
        raw_row_bytes=row_bytes(store.arrays),
        row_bytes=measured_row_bytes(store),
        free_bytes=free_bytes(store.path),
    )


def measured_row_bytes(store: Store) -> float | None:
    """Return the bytes a row takes on disk, from the ledger; None if nothing is there yet."""
    complete = sorted(store.ledger.complete() & frozenset(store.all_shards))
    rows = size = 0
    for shard in complete[:: -(-len(complete) // MEASURED_SHARDS) or 1]:
        try:
            entry = store.ledger.read(shard)
        except CacheError as error:
            _log.warning("%s; repair it with `feature-cache verify %s --repair`", error, store.path)
            continue
        rows += len(entry.tokens)
        size += entry.bytes_on_disk
    return size / rows if rows else None


def require_free_space(store: Store) -> FreeSpace:
    """Make sure that the disk can hold what is left, as soon as a shard was measured.

    An object storage does not say how much it holds, so there nothing is checked.

    Raises:
        CacheError: if it cannot, with a margin of `MARGIN`.
    """
    found = measure_free_space(store)
    needed = found.needed_bytes * (1 + MARGIN)
    if found.row_bytes is None or found.free_bytes is None:
        return found
    if needed > found.free_bytes:
        raise CacheError(
            f"the disk of {store.path} cannot hold the rest: {found.rows_left} rows are left at "
            f"{found.row_bytes / 1e6:.3g} MB each as measured, so {needed / 1e9:.4g} GB are needed "
            f"with a margin of {MARGIN:.0%}, and {found.free_bytes / 1e9:.4g} GB are free. Free "
            f"{(needed - found.free_bytes) / 1e9:.4g} GB and run the same command again (finished "
            "shards are kept), or choose a --store on a larger disk"
        )
    return found


def explain_failed_write(store: Store, index: int, error: OSError) -> CacheError:
    """Return what to tell the user about a write to a shard that failed."""
    found = measure_free_space(store) if error.errno in DISK_FULL else None
    if found is None or found.free_bytes is None:
        return CacheError(
            f"cannot write shard {index} of {store.path}: {error}. Run the same command again when "
            "this is solved; finished shards are kept."
        )
    known = "as measured on the finished shards"
    if found.row_bytes is None:
        known = "at most, before compression"
    missing = found.needed_bytes - found.free_bytes
    what = f"Free {missing:.0f} bytes" if missing > 0 else "A quota may be the limit: raise it"
    return CacheError(
        f"the disk is full at shard {index} of {store.path}: {found.rows_left} rows are left, "
        f"{found.needed_bytes:.0f} bytes {known}, and {found.free_bytes} bytes are free. {what} "
        "and run the same command again; finished shards are kept."
    )
