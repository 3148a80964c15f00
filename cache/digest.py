"""The digest of a store's content: equal for equal features, however they are stored.

It covers, for every row, token, view, scene, time and the values of every array. It does not depend on
the order of samples or shards, shard size, compression, room for boxes, identity or provenance.
"""

from collections.abc import Iterator

from cache.rows import read_back
from cache.store import Store
from shared.digests import json_digest
from shared.errors import CacheError

DIGEST_VERSION = 1


def content_digest(store: Store, *, recompute: bool = False) -> str:
    """Return the content digest of a finished store.

    Args:
        store: finished.
        recompute: read every byte again instead of trusting the ledger.

    Raises:
        CacheError: if rows are missing, or (when recomputing) damaged.
    """
    complete = store.ledger.complete()
    left = store.layout.rows - store.rows_in(complete)
    if left:
        raise CacheError(
            f"{store.path} is not finished: {left} of {store.layout.rows} rows are missing, so it "
            f"has no content digest yet. Finish it with: {store.metadata.provenance.command}"
        )
    rows = sorted(
        row
        for shard in store.all_shards
        for row in (_recomputed(store, shard) if recompute else _recorded(store, shard))
    )
    samples = store.samples
    frames = sorted(zip(samples.tokens, samples.scenes, samples.timestamps_us, strict=True))
    return json_digest({"version": DIGEST_VERSION, "frames": frames, "rows": rows})


DigestRow = tuple[int, str, str, str]  # view, token, array, digest


def _recorded(store: Store, shard: int) -> Iterator[DigestRow]:
    entry = store.ledger.read(shard)
    for array, digests in entry.digests.items():
        for token, digest in zip(entry.tokens, digests, strict=True):
            yield entry.view, token, array, digest


def _recomputed(store: Store, shard: int) -> Iterator[DigestRow]:
    view, _ = store.layout.span(shard)
    for row in read_back(store, shard):
        if row.problem:
            raise CacheError(
                f"{row.array} of sample {row.token}, view {view}: {row.problem}. "
                f"{store.repair(shard)}"
            )
        yield view, row.token, row.array, row.digest
