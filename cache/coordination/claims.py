"""Who is at which shard: so that two workers do not compute the same one.

Claims save work and nothing else: that a shard is whole is the matter of `Ledger.lock`, held while
it is written. A claim lasts from before a shard is computed until it is written, and the system
drops those of a killed worker.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from cache.coordination.free_space import explain_failed_write
from cache.coordination.store import Store
from cache.format.layout import Shard
from cache.storage.file_lock import NO_LOCKS, lock_file
from cache.storage.location import StorePath

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerSlice:
    """The shards a worker begins with: every `of`-th one, from the `number`-th on.

    Not a block of neighbours: whatever an earlier run with another number of workers left behind is
    spread over all of them.

    Args:
        number: from 1 to `of`.
        of: workers.
    """

    number: int = 1
    of: int = 1

    def holds(self, shard: int) -> bool:
        """Return whether a shard belongs to this part."""
        return shard % self.of == self.number - 1


class Claims:
    """The shards this worker is at.

    Args:
        store: where.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held: dict[int, IO[str]] = {}
        self.is_alone = False  # there are no locks: nobody sees what others do

    def take(self, shard: int) -> bool:
        """Return whether the shard is ours now; not if it is complete, or another worker is at it.

        Raises:
            OSError: if the disk is full.
        """
        ledger = self._store.ledger
        if ledger.path(shard).exists():
            return False
        if self.is_alone:
            return True
        try:
            file = lock_file(self._path(shard), is_patient=False)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            _log.warning("%s has no file locks; a worker does its own --part only", ledger.store)
            self.is_alone = True
            return True
        if file is None:
            return False
        self._held[shard] = file
        if ledger.path(shard).exists():  # finished between the two looks
            self.release(shard)
            return False
        return True

    def release(self, shard: int) -> None:
        """Let others have a shard; nothing happens if it is not ours."""
        file = self._held.pop(shard, None)
        if file is not None:
            self._path(shard).unlink(missing_ok=True)
            file.close()

    def release_all(self) -> None:
        """Let others have every shard that is not finished."""
        for shard in tuple(self._held):
            self.release(shard)

    def _path(self, shard: int) -> StorePath:
        return self._store.ledger.path(shard).with_suffix(".claim")


def shards_to_do(store: Store, part: WorkerSlice, claims: Claims) -> Iterator[Shard]:
    """Claim shard after shard until nothing is left that nobody is at.

    First the worker's own part; then it helps with the others', from the end of the store, where
    their workers come last. A shard whose worker died is found again before the end.

    Args:
        store: finished or not.
        part: what to begin with; nobody depends on anybody else doing theirs.
        claims: of this worker; the caller releases each shard when it is written.

    Raises:
        CacheError: if the disk is full.
    """
    is_new = True
    while is_new:
        is_new = False
        complete = store.ledger.complete()
        pending = [index for index in store.all_shards if index not in complete]
        own = [index for index in pending if part.holds(index)]
        others = [index for index in reversed(pending) if not part.holds(index)]
        for index in [*own, *others]:
            if claims.is_alone and not part.holds(index):
                continue
            try:
                is_ours = claims.take(index)
            except OSError as error:
                raise explain_failed_write(store, index, error) from error
            if is_ours:
                is_new = not claims.is_alone
                yield store.shard(index)
