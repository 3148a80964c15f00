"""Reading sensor files again: are they those that a store was made from?

Needs no tables: ledger entries name the files of every row.
"""

import random
import threading
from collections import Counter, defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cache.coordination.ledger import EntryError
from cache.coordination.shard_sources import ShardSources, sources_row_digest
from cache.coordination.store import Store
from cache.verification.check_rows import Damage
from cache.verification.read_progress import ReadProgress
from shared.data.features import Sources
from shared.digests import file_digest
from shared.errors import DatasetError, IdentityError
from shared.process.cores import available_cores

FEWEST_ROWS = 8  # that a resume compares, where there are as many
# 8 GB of sensor files; what differs in 0.3% of the rows is found with 95% probability.
MOST_ROWS = 1000
NAMED_FILES = 3  # in a message
SHOWN_LENGTH = 12  # characters of a digest in a message
UNKNOWN_SOURCES = "written by a version of frozen-cmt that did not digest sensor files"
REMEDY = (
    "Name the root that the store was extracted from, or extract this one into a different --store"
)


@dataclass(frozen=True, slots=True)
class ComparedRows:
    """How many finished rows a resume compared with sensor files, and how many it could not."""

    compared: int
    unknown: int


def source_damage(store: Store, root: Path, shard: int, stop: threading.Event) -> list[Damage]:
    """Read the sensor files of a complete shard again and compare them with its ledger entry.

    Args:
        store: finished or not.
        root: dataset root.
        shard: has an entry.
        stop: set from another thread to give up; the result is then meaningless.

    Raises:
        DatasetError: if a file is there and cannot be read, which says nothing about its content.
    """
    if shard not in store.all_shards:
        return []  # `shard_damage` says so
    try:
        entry = store.entry(shard)
    except EntryError as error:
        return [Damage(where=f"shard {shard}", problem=str(error), remedy=store.repair(shard))]
    if entry.sources is None:
        return [
            Damage(
                where=f"sensor files of shard {shard}",
                problem=f"they are not known, the shard was {UNKNOWN_SOURCES}",
                remedy="Extract into a different --store to have them recorded",
            )
        ]
    listed, samples = entry.sources.unpacked(), Counter[str]()
    differing: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for slot, files in enumerate(listed):
        if stop.is_set():
            return []
        for sensor, problems in differing_files(entry.sources, files, slot, root).items():
            samples[sensor] += 1
            differing[sensor] |= problems
    return [
        Damage(
            where=f"{sensor} files of {samples[sensor]} of {len(listed)} samples, variant "
            f"{entry.variant}, shard {shard}",
            problem=f"{len(problems)} of {len({f.name for row in listed for f in row[sensor]})} "
            f"are not those that were extracted: {_some(problems, root)}",
            remedy=REMEDY,
        )
        for sensor, problems in differing.items()
    ]


def require_same_sources(store: Store, root: Path) -> ComparedRows:
    """Make sure that finished rows of a store were made from the sensor files in `root`.

    Reads the files of `drawn_rows`; a file that differs elsewhere is for `feature-cache verify`.

    Args:
        store: about to be resumed or extended.
        root: dataset root.

    Raises:
        IdentityError: if files differ or are missing, naming some.
        DatasetError: if a file is there and cannot be read.
        CacheError: if a ledger entry is damaged.
    """
    known, unknown = _recorded_sources(store)
    drawn = drawn_rows({shard: len(store.layout.span(shard)[1]) for shard in known})

    def compare(row: tuple[int, int]) -> dict[str, dict[str, str]]:
        shard, slot = row
        return differing_files(known[shard], known[shard].unpacked()[slot], slot, root)

    pool = ThreadPoolExecutor(available_cores())
    try:
        results = pool.map(compare, drawn)
        rows = []
        with ReadProgress(f"sensor files of {store.path}", len(drawn)) as progress:
            for result in results:
                rows.append(result)
                progress.add(1)
    finally:
        pool.shutdown(cancel_futures=True)
    if any(rows):
        raise IdentityError(_refusal(store, root, rows))
    return ComparedRows(len(drawn), unknown)


def drawn_rows(sizes: Mapping[int, int]) -> list[tuple[int, int]]:
    """Draw rows to compare: one of every shard, at least `FEWEST_ROWS` and at most `MOST_ROWS`.

    Args:
        sizes: rows of each shard.

    Returns:
        Shards and slots; the draw is seeded with the number of rows, so it differs as they grow.
    """
    draw = random.Random(sum(sizes.values()))
    turns = sorted(
        (turn, draw.random(), shard, slot)
        for shard, rows in sizes.items()
        for turn, slot in enumerate(draw.sample(range(rows), rows))
    )
    count = min(max(FEWEST_ROWS, len(sizes)), MOST_ROWS)
    return [(shard, slot) for _, _, shard, slot in turns[:count]]


def differing_files(
    recorded: ShardSources, files: Sources, slot: int, root: Path
) -> dict[str, dict[str, str]]:
    """Compare the sensor files of a row with its record.

    Args:
        recorded: of the shard.
        files: of the row, as unpacked.
        slot: of the row.
        root: dataset root.

    Returns:
        By sensor that differs, what is wrong by the name of the file.

    Raises:
        DatasetError: if a file is there and cannot be read.
    """
    differing = {}
    for sensor, expected in files.items():
        digests = [_digest_now(root / file.name) for file in expected]
        if sources_row_digest(digests) != recorded.digests[sensor][slot]:
            differing[sensor] = {
                file.name: _problem(digest, file.digest)
                for file, digest in zip(expected, digests, strict=True)
                if not digest.startswith(file.digest)
            }
    return differing


def _recorded_sources(store: Store) -> tuple[dict[int, ShardSources], int]:
    """Return the sources of the complete shards that have them, and count the other rows."""
    complete = sorted(shard for shard in store.ledger.complete() if shard in store.all_shards)
    known, unknown = {}, 0
    for entry in store.entries(complete):
        if entry.sources is None:
            unknown += len(entry.tokens)
        else:
            known[entry.shard] = entry.sources
    return known, unknown


def _digest_now(file: Path) -> str:
    """Return the digest of a file, empty if there is none."""
    try:
        return file_digest(file)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise DatasetError(
            f"{file} cannot be read ({error.strerror}); resolve this and run the same command again"
        ) from error


def _problem(digest: str, expected: str) -> str:
    if not digest:
        return "is missing"
    digest, expected = digest[:SHOWN_LENGTH], expected[:SHOWN_LENGTH]
    return f"has SHA-256 {digest}..., the row was made from {expected}..."


def _some(problems: Mapping[str, str], root: Path) -> str:
    """Name the first few files that differ."""
    named = [f"{root / name} {problem}" for name, problem in list(problems.items())[:NAMED_FILES]]
    return "; ".join(named) + (" and so on" if len(problems) > NAMED_FILES else "")


def _refusal(store: Store, root: Path, rows: list[dict[str, dict[str, str]]]) -> str:
    """Return why a store is not resumed from these sensor files."""
    samples, problems = Counter[str](), defaultdict[str, dict[str, str]](dict)
    for row in rows:
        for sensor, files in row.items():
            samples[sensor] += 1
            problems[sensor] |= files
    differing = "\n  ".join(
        f"{sensor} of {samples[sensor]} rows: {_some(problems[sensor], root)}" for sensor in samples
    )
    return (
        f"{store.path} was made from other sensor files than those in {root}; of {len(rows)} "
        f"finished rows whose files were read again, these differ:\n  {differing}\n{REMEDY}. "
        "Nothing was changed."
    )
