"""Which rows a store has, and the errors for those that it does not have yet.

The listing of the ledger is remembered, in a byte per shard. It is repeated when a row is missing,
because an extraction may be running at the same time.
"""

import numpy as np
from numpy.typing import NDArray

from cache.coordination.store import Store
from shared.errors import CacheError, MissingRowError

NAMED_SAMPLES = 3  # in a message


class Completeness:
    """Which rows a store has.

    Args:
        store: an opened store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._is_complete = self._listed()

    def missing(self) -> tuple[str, ...]:
        """Return the tokens of the samples of which a variant is missing now."""
        self._is_complete = self._listed()
        is_absent = np.zeros(self._store.layout.samples, bool)
        for shard in np.flatnonzero(~self._is_complete):
            _, samples = self._store.layout.span(int(shard))
            is_absent[samples.start : samples.stop] = True
        return tuple(self._store.samples.tokens[i] for i in np.flatnonzero(is_absent))

    def require_all(self) -> None:
        """Make sure that no row is missing.

        Raises:
            CacheError: saying how many samples are missing and how to get them.
        """
        missing = self.missing()
        if missing:
            more = ", ..." if len(missing) > NAMED_SAMPLES else ""
            raise CacheError(
                f"{self._store.path} is not finished: {len(missing)} of "
                f"{self._store.layout.samples} samples are missing "
                f"({', '.join(missing[:NAMED_SAMPLES])}{more}). Finish it with: "
                f"{self._store.command}"
            )

    def position(self, token: str, variant: int) -> int:
        """Return the position in the store of a sample whose row it has.

        Raises:
            MissingRowError: if the row is missing.
        """
        store, layout = self._store, self._store.layout
        row = f"sample {token}, variant {variant}"
        position = store.samples.position(token)
        if position is None or not 0 <= variant < layout.variants:
            raise MissingRowError(
                f"{row} is not in {store.path}, which holds {layout.samples} samples in "
                f"{layout.variants} variants; extract the split it belongs to into a different "
                "--store"
            )
        shard, _ = layout.locate(variant, position)
        if not self._is_complete[shard]:
            self._is_complete = self._listed()
        if not self._is_complete[shard]:
            raise MissingRowError(
                f"{row} is not extracted yet: shard {shard} of {store.path} is not complete "
                f"({store.rows_in(store.ledger.complete())} of {layout.rows} rows are). "
                f"Finish it with: {self._store.command}"
            )
        return position

    def _listed(self) -> NDArray[np.bool_]:
        """Return whether each shard is complete now."""
        is_complete = np.zeros(self._store.layout.shard_count, bool)
        for shard in self._store.ledger.listed():
            if shard in self._store.all_shards:
                is_complete[shard] = True
        return is_complete
