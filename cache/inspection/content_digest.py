"""The digest of a store's content: equal for equal features, however they are stored.

It covers, for every row, token, variant, scene, time and the values of every array, and the null
features. It does not depend on the order of samples or shards, shard size, compression, padding of
boxes, identity or provenance.
"""

from functools import partial

from cache.coordination.ledger import LedgerEntry
from cache.coordination.null_store import open_null
from cache.coordination.store import Store
from cache.verification.read_back import read_back
from shared.digests import BLAKE3, SHA256, json_digest
from shared.errors import CacheError

VERSIONS = {SHA256: 2, BLAKE3: 3}  # by the algorithm of the rows' digests


def content_digest(store: Store, *, recompute: bool = False) -> str:
    """Return the content digest of a finished store.

    Args:
        store: finished.
        recompute: read every byte again instead of trusting the ledger. This gives the digest that
            the store would have if it were made now, also where the ledger has SHA-256.

    Raises:
        CacheError: if rows are missing, or (when recomputing) damaged.
    """
    complete = store.ledger.complete()
    missing = store.layout.rows - store.rows_in(complete)
    if missing:
        raise CacheError(
            f"{store.path} is not finished: {missing} of {store.layout.rows} rows are missing, so "
            f"it has no content digest yet. Finish it with: {store.command}"
        )
    shards = store.all_shards
    digests_by_shard = (
        store.path.for_each(partial(_recomputed, store), shards)
        if recompute
        else map(_recorded, store.entries(shards))
    )
    rows = sorted(
        (store.layout.span(shard)[0], token, json_digest(by_array))
        for shard, digests in enumerate(digests_by_shard)
        for token, by_array in digests.items()
    )
    samples = store.samples
    frames = sorted(zip(samples.tokens, samples.scenes, samples.timestamps_us, strict=True))
    null = open_null(store)
    absent = None if null is None else content_digest(null, recompute=recompute)
    version = VERSIONS[BLAKE3 if recompute else store.metadata.digest_algorithm]
    return json_digest({"version": version, "frames": frames, "rows": rows, "null": absent})


def _recorded(entry: LedgerEntry) -> dict[str, dict[str, str]]:
    """Return the ledger's digests of a shard by token and array."""
    return {
        token: {array: digests[slot] for array, digests in entry.digests.items()}
        for slot, token in enumerate(entry.tokens)
    }


def _recomputed(store: Store, shard: int) -> dict[str, dict[str, str]]:
    """Return the digests of what is on disk, likewise."""
    variant, _ = store.layout.span(shard)
    digests: dict[str, dict[str, str]] = {}
    for row in read_back(store, shard, digest_algorithm=BLAKE3):
        for array, problem in row.problems.items():
            raise CacheError(
                f"{array} of sample {row.token}, variant {variant}: {problem}. "
                f"{store.repair(shard)}"
            )
        digests[row.token] = row.digests
    return digests
