"""Which shard a worker gets next, and what becomes of shards that fail."""

from collections import Counter, deque
from collections.abc import Iterator

MOST_FAILURES = 3  # of a shard; then it is given up
MOST_LOSSES = 10  # of its workers while a shard was in work: it may be what ends them


class HandOut:
    """The shards of a run, each with one worker at a time.

    Args:
        fresh: shards that nobody has begun, taken one by one.
    """

    def __init__(self, fresh: Iterator[int]) -> None:
        self._fresh = fresh
        self._again: deque[int] = deque()
        self._failed_at: dict[int, str] = {}  # the worker that a shard failed at last
        self._failures: Counter[int] = Counter()
        self._losses: Counter[int] = Counter()
        self.in_work: set[int] = set()
        self.given_up: dict[int, str] = {}  # shard, and why

    def next(self, worker: str) -> int | None:
        """Return a shard for a worker, now in work; None if there is none at present.

        Shards that failed or lost their worker come last, and if possible at another worker: if one
        of them ends workers, it does so when the rest is done.

        Raises:
            OSError: as `shards_to_hand_out` does.
        """
        shard = next(self._fresh, None)
        if shard is None:
            shard = self._next_again(worker)
        if shard is not None:
            self.in_work.add(shard)
        return shard

    def is_over(self) -> bool:
        """Return whether nothing is in work, and nothing is left to hand out."""
        if self.in_work or self._again:
            return False
        shard = next(self._fresh, None)
        if shard is not None:
            self._again.append(shard)
        return shard is None

    def finished(self, shard: int) -> None:
        """Take note that a shard is written."""
        self.in_work.discard(shard)

    def failed(self, shard: int, worker: str, error: str) -> bool:
        """Take note of an error.

        Returns:
            Whether it was the shard's first.
        """
        self.in_work.discard(shard)
        self._failures[shard] += 1
        self._failed_at[shard] = worker
        if self._failures[shard] < MOST_FAILURES:
            self._again.append(shard)
        else:
            self.given_up[shard] = error
        return self._failures[shard] == 1

    def lost(self, shard: int) -> None:
        """Take note that the worker of a shard died; that is not a failure of the shard."""
        self.in_work.discard(shard)
        self._losses[shard] += 1
        if self._losses[shard] < MOST_LOSSES:
            self._again.append(shard)
        else:
            self.given_up[shard] = f"{MOST_LOSSES} workers died while they had it"

    def _next_again(self, worker: str) -> int | None:
        if not self._again:
            return None
        elsewhere = (shard for shard in self._again if self._failed_at.get(shard) != worker)
        shard = next(elsewhere, self._again[0])
        self._again.remove(shard)
        return shard
