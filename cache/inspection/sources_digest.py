"""Whether stores were made from the same sensor files: a digest, and a comparison by sample.

Identity holds what the tables say; this is what the files behind their names held when they were
read. All variants of a sample are made from the same files, so both go by sample.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cache.coordination.ledger import LedgerEntry
from cache.coordination.store import Store
from cache.format.identity import differing_fields
from cache.verification.check_sources import UNKNOWN_SOURCES
from shared.digests import json_digest

DIGEST_VERSION = 1
SENSORS = ("camera", "lidar")


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleSources:
    """Digests of the sensor files that the complete rows of a store were made from.

    Args:
        digests: by sensor and token; more than one where variants differ in their files.
        rows: complete rows.
        unknown: how many of them have no digests.
    """

    digests: Mapping[str, Mapping[str, frozenset[str]]]
    rows: int
    unknown: int

    @classmethod
    def of(cls, entries: Iterable[LedgerEntry]) -> "SampleSources":
        """Collect what ledger entries say."""
        digests: dict[str, defaultdict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        rows = unknown = 0
        for entry in entries:
            rows += len(entry.tokens)
            if entry.sources is None:
                unknown += len(entry.tokens)
                continue
            for sensor, of_rows in entry.sources.digests.items():
                for token, digest in zip(entry.tokens, of_rows, strict=True):
                    digests[sensor][token].add(digest)
        frozen = {
            sensor: {token: frozenset(several) for token, several in by_token.items()}
            for sensor, by_token in digests.items()
        }
        return cls(digests=frozen, rows=rows, unknown=unknown)

    @property
    def digest(self) -> str | None:
        """Digest over all samples, whatever their order; None if a row's files are not known."""
        if self.unknown or not self.rows:
            return None
        samples = sorted(
            (sensor, token, sorted(several))
            for sensor, by_token in self.digests.items()
            for token, several in by_token.items()
        )
        return json_digest({"version": DIGEST_VERSION, "samples": samples})

    def differing(self, theirs: "SampleSources") -> dict[str, tuple[int, int]]:
        """Return by sensor how many samples have other files, and how many are in both."""
        counts = {}
        for sensor in SENSORS:
            ours, others = self.digests.get(sensor, {}), theirs.digests.get(sensor, {})
            common = ours.keys() & others.keys()
            if common:
                counts[sensor] = sum(ours[token] != others[token] for token in common), len(common)
        return counts


def sample_sources(store: Store) -> SampleSources:
    """Return what is known of the sensor files of a store, finished or not."""
    complete = sorted(shard for shard in store.ledger.complete() if shard in store.all_shards)
    return SampleSources.of(store.entries(complete))


def sources_digest(store: Store) -> str | None:
    """Return the digest of the sensor files of every row of a store.

    Returns:
        None if rows are missing, or their files are not known.
    """
    sources = sample_sources(store)
    return sources.digest if sources.rows == store.layout.rows else None


def explain_sources(mine: Store, theirs: Store) -> tuple[list[str], list[str]]:
    """Compare the sensor files of the samples that two stores have in common.

    Returns:
        What differs, empty if nothing does; and what cannot be compared.
    """
    ours, others = sample_sources(mine), sample_sources(theirs)
    notes = [
        f"sensor files cannot be compared: {sources.unknown} of {sources.rows} rows of "
        f"{store.path} were {UNKNOWN_SOURCES}"
        for store, sources in ((mine, ours), (theirs, others))
        if sources.unknown and ours.rows and others.rows
    ]
    counts = ours.differing(others)
    if not any(differing for differing, _ in counts.values()):
        return [], notes
    # The first number names the total, the others are of the same one unless they say otherwise.
    total, words = next(total for _, total in counts.values()), list[str]()
    for sensor, (differing, of) in counts.items():
        size = f" of {of} samples" if not words or of != total else ""
        words.append(f"{sensor} of {differing}{size}")
    fields = differing_fields(mine.metadata.identity, theirs.metadata.identity)
    same = "" if any(field.startswith("dataset") for field in fields) else "same tables, "
    arrays = ", ".join(f"{sensor}/*" for sensor, (differing, _) in counts.items() if differing)
    return [
        f"{same}other sensor files: {', '.join(words)}",
        f"    to extract anew: {arrays}, those samples",
    ], notes
