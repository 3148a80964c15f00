"""Which rows of a store are there, and the errors for those that are not.

What the ledger lists is remembered, a byte for each shard; it is listed again when a row is not
there, because an extraction may be running beside the reader.
"""

import numpy as np
from numpy.typing import NDArray

from cache.coordination.store import Store
from shared.errors import CacheError, MissingRowError

NAMED = 3  # samples named in a message


class Completeness:
    """Which rows are there.

    Args:
        store: an opened store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._is_complete = self._listed()

    def missing(self) -> tuple[str, ...]:
        """Return the tokens of samples of which some variant is not there now."""
        self._is_complete = self._listed()
        is_absent = np.zeros(self._store.layout.samples, bool)
        for shard in np.flatnonzero(~self._is_complete):
            _, samples = self._store.layout.span(int(shard))
            is_absent[samples.start : samples.stop] = True
        return tuple(self._store.samples.tokens[i] for i in np.flatnonzero(is_absent))

    def require_all(self) -> None:
        """Make sure that every row is there.

        Raises:
            CacheError: saying how many samples are missing and how to get them.
        """
        missing = self.missing()
        if missing:
            more = ", ..." if len(missing) > NAMED else ""
            raise CacheError(
                f"{self._store.path} is not finished: {len(missing)} of "
                f"{self._store.layout.samples} samples are missing "
                f"({', '.join(missing[:NAMED])}{more}). Finish it with: {self._command}"
            )

    def position(self, token: str, variant: int) -> int:
        """Return the position in the store of a sample whose row is there.

        Raises:
            MissingRowError: if it is not.
        """
        store, layout = self._store, self._store.layout
        position = store.samples.position(token)
        if position is None or not 0 <= variant < layout.variants:
            raise MissingRowError(
                f"sample {token}, variant {variant} is not in {store.path}, which holds "
                f"{layout.samples} samples in {layout.variants} variants; extract the split it belongs "
                "to into another --store"
            )
        shard, _ = layout.locate(variant, position)
        if not self._is_complete[shard]:
            self._is_complete = self._listed()
        if not self._is_complete[shard]:
            raise MissingRowError(
                f"sample {token}, variant {variant} is not extracted yet: shard {shard} of {store.path} "
                f"is not complete ({store.rows_in(store.ledger.complete())} of {layout.rows} rows "
                f"are). Finish it with: {self._command}"
            )
        return position

    def _listed(self) -> NDArray[np.bool_]:
        """Return whether each shard is complete now."""
        is_complete = np.zeros(self._store.layout.shard_count, bool)
        for shard in self._store.ledger.listed():
            if shard in self._store.all_shards:
                is_complete[shard] = True
        return is_complete

    @property
    def _command(self) -> str:
        return self._store.metadata.provenance.command
