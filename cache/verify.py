"""Reading everything again: is what lies on disk what was written?"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from tqdm import tqdm

from cache.metadata import METADATA_FILE, metadata_digest_of
from cache.rows import read_back
from cache.store import Store
from shared.errors import CacheError


@dataclass(frozen=True, kw_only=True, slots=True)
class Damage:
    """One thing that is wrong.

    Args:
        where: array and samples, or file.
        problem: what is wrong.
        remedy: what to do.
    """

    where: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}. {self.remedy}"


def verify(store: Store, *, is_quiet: bool) -> Iterator[Damage]:
    """Read every complete row again and compare it with the ledger.

    Args:
        store: finished or not; shards without a ledger entry do not exist and are not looked at.
        is_quiet: show no progress bar.
    """
    yield from _verify_metadata(store)
    complete = sorted(store.ledger.complete())
    for shard in tqdm(complete, desc="verify", unit="shard", disable=is_quiet):
        if shard in store.all_shards:
            yield from _verify_shard(store, shard)
        else:
            yield Damage(
                where=f"ledger entry {store.ledger.path(shard)}",
                problem=f"the store has {store.layout.shard_count} shards, this is none of them",
                remedy="Delete this file; it came from another store.",
            )


def _verify_metadata(store: Store) -> Iterator[Damage]:
    """Compare the Zarr metadata below the root, for other readers, with the root's record."""
    for node, recorded in store.metadata.metadata_digests.items():
        file = store.path / node / METADATA_FILE
        try:
            is_same = metadata_digest_of(store.path, node) == recorded
        except (OSError, ValueError):
            is_same = False
        if not is_same:
            yield Damage(
                where=str(file),
                problem="is missing or not as it was written",
                remedy="Restore this file from a copy; the features are not affected.",
            )


def _verify_shard(store: Store, shard: int) -> Iterator[Damage]:
    view, samples = store.layout.span(shard)
    tokens = store.shard(shard).tokens
    try:
        entry = store.ledger.read(shard)
        if (entry.shard, entry.view, entry.tokens) != (shard, view, tokens):
            raise CacheError(f"ledger entry {store.ledger.path(shard)} describes other rows")
    except CacheError as error:
        yield Damage(where=f"shard {shard}", problem=str(error), remedy=store.repair(shard))
        return
    recorded = {
        (token, array): digest
        for array, digests in entry.digests.items()
        for token, digest in zip(entry.tokens, digests, strict=True)
    }
    broken: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in read_back(store, shard):
        problem = row.problem
        if not problem and row.digest != recorded.get((row.token, row.array)):
            problem = "the values are not those that the ledger recorded"
        if problem:
            broken[row.array, problem].append(row.token)
    for (array, problem), damaged in broken.items():
        # A lost file loses every row of it: one line, not hundreds.
        is_all = len(damaged) == len(samples) > 1
        who = f"all {len(damaged)} samples from {damaged[0]} on" if is_all else ", ".join(damaged)
        yield Damage(
            where=f"{array} of {who}, view {view}, shard {shard}",
            problem=problem,
            remedy=store.repair(shard),
        )
