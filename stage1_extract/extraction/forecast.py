"""How large the store will be and how long it will take: said at the start, and once measured."""

import logging
import time

from tqdm import tqdm

from cache.coordination.claims import WorkerSlice
from cache.coordination.free_space import require_free_space
from cache.coordination.store import Store

log = logging.getLogger(__name__)

GIGABYTE = 1e9


class Forecast:
    """Counts rows, shows a bar on a terminal, and says once what the first shard taught.

    Args:
        store: being filled.
        part: of this worker.

    Raises:
        CacheError: if finished shards show that the disk cannot hold the rest.
    """

    def __init__(self, store: Store, part: WorkerSlice) -> None:
        self._store, self._part = store, part
        left = frozenset(store.all_shards) - store.ledger.complete()
        self._planned = store.rows_in(frozenset(shard for shard in left if part.holds(shard)))
        self.bar = tqdm(total=self._planned, unit="sample", disable=None)
        self._rows = 0
        self._began = self._warm = time.monotonic()
        self._warm_rows = 0  # the first batch also loads libraries and tries algorithms
        self._has_said = False
        self._announce(len(left))

    def _announce(self, shards: int) -> None:
        room, rows = require_free_space(self._store), self._store.layout.rows
        expected = "" if room.row_bytes is None else f", {room.needed_bytes / GIGABYTE:.2f} GB"
        log.info(
            "%d of %d rows to extract in %d shards; %.2f GB before compression%s, %s",
            room.rows_left,
            rows,
            shards,
            room.rows_left * room.raw_row_bytes / GIGABYTE,
            f"{expected} as measured" if expected else "",
            room.free,
        )

    def computed(self, rows: int) -> None:
        """Note a batch."""
        if not self._rows:
            self._warm, self._warm_rows = time.monotonic(), rows
        self._rows += rows
        self.bar.total = max(self._planned, self._rows)  # more, when it helps with others' parts
        self.bar.update(rows)

    def written(self, shards: int) -> None:
        """Note how many shards this worker has finished; speak after the first.

        Raises:
            CacheError: if the disk cannot hold the rest.
        """
        if self._has_said or not shards:
            return
        self._has_said = True
        room = require_free_space(self._store)
        if not room.rows_left or room.row_bytes is None:
            return
        each_s = self._seconds_per_row()
        done = self._store.layout.rows - room.rows_left
        log.info(
            "%.2f s and %.2f MB per row (%.2f times smaller than uncompressed); about %.2f h%s and "
            "%.2f GB for the rest, %.2f GB in all, %s",
            each_s,
            room.row_bytes / 1e6,
            room.raw_row_bytes / room.row_bytes,
            each_s * room.rows_left / self._part.of / 3600,
            f" if all {self._part.of} workers are as fast" if self._part.of > 1 else "",
            room.needed_bytes / GIGABYTE,
            room.needed_bytes / GIGABYTE + done * room.row_bytes / GIGABYTE,
            room.free,
        )

    def _seconds_per_row(self) -> float:
        """Return what a row takes, without the first batch if there were others."""
        now = time.monotonic()
        later = self._rows - self._warm_rows
        return (now - self._warm) / later if later else (now - self._began) / self._rows
