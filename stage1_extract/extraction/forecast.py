"""How large the store will be and how long it will take: at the start, and once measured."""

import logging
import time

from tqdm import tqdm

from cache.coordination.claims import WorkerSlice
from cache.coordination.free_space import require_free_space
from cache.coordination.store import Store
from shared.wording import counted, duration
from stage1_extract.extraction.stages.stage_rates import StageRates

log = logging.getLogger(__name__)

GIGABYTE = 1e9


class Forecast:
    """Counts rows, shows a progress bar on a terminal, and logs a forecast after the first shard.

    Args:
        store: being filled.
        worker_slice: of this worker.
        rates: shown beside the bar.

    Raises:
        CacheError: if finished shards show that the disk cannot hold the rest.
    """

    def __init__(self, store: Store, worker_slice: WorkerSlice, rates: StageRates) -> None:
        self._store, self._slice, self._rates = store, worker_slice, rates
        left = frozenset(store.all_shards) - store.ledger.complete()
        self._planned = store.rows_in(
            frozenset(shard for shard in left if worker_slice.holds(shard))
        )
        self.bar = tqdm(total=self._planned, unit="sample", disable=None)
        self._rows = 0
        self._began = self._warm = time.monotonic()
        self._warm_rows = 0  # the first batch also loads libraries and tries algorithms
        self._is_announced = False
        self._announce(len(left))

    def _announce(self, shards: int) -> None:
        space, rows = require_free_space(self._store), self._store.layout.rows
        expected = "" if space.row_bytes is None else f", {space.needed_bytes / GIGABYTE:.2f} GB"
        log.info(
            "%d of %s to extract in %s; %.2f GB before compression%s, %s",
            space.rows_left,
            counted(rows, "row"),
            counted(shards, "shard"),
            space.rows_left * space.raw_row_bytes / GIGABYTE,
            f"{expected} as measured" if expected else "",
            space.free,
        )

    def computed(self, rows: int) -> None:
        """Count the rows of a batch."""
        if not self._rows:
            self._warm, self._warm_rows = time.monotonic(), rows
        self._rows += rows
        self.bar.total = max(self._planned, self._rows)  # more when it helps other workers
        self.bar.set_postfix_str(str(self._rates), refresh=False)
        self.bar.update(rows)

    def written(self, shards: int) -> None:
        """Take the number of shards this worker has finished; log the forecast after the first.

        Raises:
            CacheError: if the disk cannot hold the rest.
        """
        if self._is_announced or not shards:
            return
        self._is_announced = True
        space = require_free_space(self._store)
        if not space.rows_left or space.row_bytes is None:
            return
        row_s = self._seconds_per_row()
        done = self._store.layout.rows - space.rows_left
        log.info(
            "%.2f s and %.2f MB per row (%.2f times smaller than uncompressed); about %s%s and "
            "%.2f GB for the rest, %.2f GB in all, %s",
            row_s,
            space.row_bytes / 1e6,
            space.raw_row_bytes / space.row_bytes,
            duration(row_s * space.rows_left / self._slice.of),
            f" if all {self._slice.of} workers are as fast" if self._slice.of > 1 else "",
            space.needed_bytes / GIGABYTE,
            space.needed_bytes / GIGABYTE + done * space.row_bytes / GIGABYTE,
            space.free,
        )

    def _seconds_per_row(self) -> float:
        """Return the time per row, without the first batch if there were more."""
        now = time.monotonic()
        later = self._rows - self._warm_rows
        return (now - self._warm) / later if later else (now - self._began) / self._rows
