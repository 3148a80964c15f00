"""Checking a shard, and the Zarr metadata: is what is on disk what was written?"""

import math
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace

from cache.coordination.array_nodes import late_arrays
from cache.coordination.ledger import EntryError, LedgerEntry
from cache.coordination.store import Store
from cache.format.metadata import METADATA_FILE, metadata_digest_of, read_metadata
from cache.format.statistics import Statistics, merge_by_array
from cache.verification.read_back import ReadBack, read_back

# Relative to the largest magnitude: a different machine may add in a different order, in float32
# at worst.
STATISTICS_TOLERANCE = 1e-5


@dataclass(frozen=True, kw_only=True, slots=True)
class Damage:
    """Something that is not as it was written.

    Args:
        where: array and samples, or file.
        problem: what is wrong.
        remedy: what to do.
        shard: number of the ledger entry that `--repair` drops; None where that does not help.
    """

    where: str
    problem: str
    remedy: str
    shard: int | None = None

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}. {self.remedy}"


def metadata_damage(store: Store) -> Iterator[Damage]:
    """Compare the Zarr metadata below the root, for other readers, with the root's record."""
    metadata = read_metadata(store.path)  # another command may be adding variants
    late = late_arrays(store.path, metadata)
    for node, recorded in metadata.metadata_digests.items():
        file = store.path / node / METADATA_FILE
        try:
            is_same = metadata_digest_of(store.path, node) == recorded
        except (OSError, ValueError):
            is_same = False
        if is_same:
            continue
        if node in late:
            yield Damage(
                where=str(file),
                problem="does not have all variants: a command that added some is about to change "
                "it, or was stopped before it did",
                remedy="If none is running, this does it; the features are not affected: "
                f"{replace(store, metadata=metadata).command}",
            )
            continue
        yield Damage(
            where=str(file),
            problem="is missing or not as it was written",
            remedy="Restore this file from a copy; the features are not affected.",
        )


def shard_damage(store: Store, shard: int, stop: threading.Event) -> list[Damage]:
    """Read a complete shard again and compare it with its ledger entry.

    Args:
        store: finished or not.
        shard: has an entry.
        stop: set from another thread to give up; the result is then meaningless.

    Raises:
        CacheError: if a file cannot be read now, which says nothing about its content.
    """
    if shard not in store.all_shards:
        return [
            Damage(
                where=f"ledger entry {store.ledger.path(shard)}",
                problem=f"the store has {store.layout.shard_count} shards, this is none of them",
                remedy="It came from a different store; --repair moves it aside.",
                shard=shard,
            )
        ]
    try:
        entry = store.entry(shard)
    except EntryError as error:
        return [_of(store, shard, f"shard {shard}", str(error))]
    rows = []
    algorithm = store.metadata.digest_algorithm
    for row in read_back(store, shard, digest_algorithm=algorithm, needs_statistics=True):
        if stop.is_set():
            return []
        rows.append(row)
    broken = [*_broken_rows(store, entry, rows)]
    return broken or [*_wrong_statistics(store, entry, rows)]


def _broken_rows(store: Store, entry: LedgerEntry, rows: list[ReadBack]) -> Iterator[Damage]:
    """Yield the damage of arrays that cannot be read or whose values differ from the ledger."""
    broken: dict[tuple[str, str], list[str]] = defaultdict(list)
    for slot, row in enumerate(rows):
        for spec in store.arrays:
            problem = row.problems.get(spec.name)
            recorded = entry.digests.get(spec.name, ())[slot : slot + 1]
            if problem is None and recorded != (row.digests[spec.name],):
                problem = "the values are not those that the ledger recorded"
            if problem is not None:
                broken[spec.name, problem].append(row.token)
    for (array, problem), tokens in broken.items():
        # A lost file loses all its rows: report that in one line, not in hundreds.
        is_all = len(tokens) == len(rows) > 1
        samples = f"all {len(tokens)} samples from {tokens[0]} on" if is_all else ", ".join(tokens)
        where = f"{array} of {samples}, variant {entry.variant}, shard {entry.shard}"
        yield _of(store, entry.shard, where, problem)


def _wrong_statistics(store: Store, entry: LedgerEntry, rows: list[ReadBack]) -> Iterator[Damage]:
    """Yield the damage of feature maps whose values do not have the recorded statistics."""
    actual = merge_by_array(row.statistics for row in rows)
    for name in sorted(actual.keys() | entry.statistics.keys()):
        if not _agree(actual, entry.statistics, name):
            yield _of(
                store,
                entry.shard,
                f"{name} of shard {entry.shard}",
                f"the ledger's statistics are {entry.statistics.get(name)}, those of the values "
                f"are {actual.get(name)}",
            )


def _agree(actual: Mapping[str, Statistics], recorded: Mapping[str, Statistics], name: str) -> bool:
    if name not in actual or name not in recorded:
        return False
    ours, theirs = actual[name], recorded[name]
    allowed = STATISTICS_TOLERANCE * ours.absmax
    columns = [field.name for field in fields(Statistics) if field.name != "count"]
    return ours.count == theirs.count and all(
        math.isclose(getattr(ours, column), getattr(theirs, column), rel_tol=0, abs_tol=allowed)
        for column in columns
    )


def _of(store: Store, shard: int, where: str, problem: str) -> Damage:
    return Damage(where=where, problem=problem, remedy=store.repair(shard), shard=shard)
