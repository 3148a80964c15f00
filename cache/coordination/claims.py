"""Who is working on which shard, so that no two workers compute the same one.

Claims only save work: that a shard is complete is ensured by `Ledger.lock`, which is held while it
is written. A claim lasts from before a shard is computed until it is written, and the system drops
the claims of a killed worker.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from cache.coordination.free_space import explain_failed_write
from cache.coordination.store import Store
from cache.format.layout import Shard
from cache.storage.protocol import StorePath
from shared.process.file_lock import NoLocksError

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerSlice:
    """The shards a worker begins with: every `of`-th shard, starting with the `number`-th.

    They are not neighbours: whatever an earlier run with a different number of workers left
    unfinished is spread over all of them.

    Args:
        number: from 1 to `of`.
        of: number of workers.
    """

    number: int = 1
    of: int = 1

    def holds(self, shard: int) -> bool:
        """Return whether a shard belongs to this slice."""
        return shard % self.of == self.number - 1


class Claims:
    """The shards that this worker is working on.

    Args:
        store: the store being filled.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held: dict[int, IO[str]] = {}
        self.is_alone = False  # there are no locks: workers cannot see each other

    def take(self, shard: int) -> bool:
        """Claim a shard.

        Returns:
            Whether it is ours now; False if it is complete or another worker has it.

        Raises:
            OSError: if the disk is full.
        """
        ledger = self._store.ledger
        if ledger.path(shard).exists():
            return False
        if self.is_alone:
            return True
        try:
            file = self._path(shard).lock(is_patient=False)
        except NoLocksError:
            self.is_alone = True
            return True
        if file is None:
            return False
        self._held[shard] = file
        if ledger.path(shard).exists():  # finished since the first look
            self.release(shard)
            return False
        return True

    def release(self, shard: int) -> None:
        """Give up a shard; does nothing if it is not ours."""
        file = self._held.pop(shard, None)
        if file is not None:
            self._path(shard).unlink(missing_ok=True)
            file.close()

    def release_all(self) -> None:
        """Give up every shard."""
        for shard in tuple(self._held):
            self.release(shard)

    def _path(self, shard: int) -> StorePath:
        return self._store.ledger.path(shard).with_suffix(".claim")


def shards_to_do(store: Store, worker: WorkerSlice, claims: Claims) -> Iterator[Shard]:
    """Claim shard after shard until every shard is complete or being worked on.

    A worker starts with its own slice. Then it helps with the other slices, from the end of the
    store, which their workers reach last. A shard whose worker died is picked up before the end.

    Args:
        store: finished or not.
        worker: the slice to begin with; nobody relies on other workers finishing theirs.
        claims: of this worker; the caller releases each shard when it is written.

    Raises:
        CacheError: if the disk is full.
    """
    has_progress, is_told = True, False
    while has_progress:
        has_progress = False
        complete = store.ledger.complete()
        pending = [index for index in store.all_shards if index not in complete]
        own = [index for index in pending if worker.holds(index)]
        foreign = [index for index in reversed(pending) if not worker.holds(index)]
        for index in [*own, *foreign]:
            if claims.is_alone and not worker.holds(index):
                continue
            try:
                is_ours = claims.take(index)
            except OSError as error:
                raise explain_failed_write(store, index, error) from error
            if is_ours:
                has_progress = not claims.is_alone
                if claims.is_alone and not is_told:
                    is_told = True
                    _log.warning(
                        "%s has no file locks; this worker only extracts its own slice", store.path
                    )
                yield store.shard(index)


def shards_to_hand_out(store: Store, claims: Claims) -> Iterator[int]:
    """Claim shard after shard for a driver that hands them to workers; each at most once.

    Args:
        store: finished or not.
        claims: of the driver, which releases each shard when it is written or given up. Where there
            are no locks nothing is claimed: only the driver's workers may write there.

    Raises:
        OSError: if the disk is full.
    """
    complete = store.ledger.complete()
    for index in store.all_shards:
        # A look at every shard would be a request each on object storage.
        if index not in complete and (claims.is_alone or claims.take(index)):
            yield index
