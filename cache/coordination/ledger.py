"""Which shards are complete: a small JSON file per shard, written after its bytes are durable.

A shard without an entry does not exist, whatever the arrays contain. Entries are
`ledger/000007.json`; the directory is a Zarr array without content, so that Zarr readers list the
store without complaint.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass

from cache.coordination.shard_sources import ShardSources
from cache.format.checked_json import add_checksum, json_bytes, remove_checksum
from cache.format.statistics import Statistics
from cache.storage.protocol import StorePath
from shared.config.config_json import from_json
from shared.errors import CacheError
from shared.process.file_lock import NoLocksError

LEDGER_GROUP = "ledger"
ABOUT = "This directory has a JSON file per complete shard; a shard without one does not exist."
MARK_BYTES = 1  # size of the file of a lock that has been held
DAMAGED_SUFFIX = ".damaged"  # an entry that `feature-cache verify --repair` moved aside


class EntryError(CacheError):
    """A ledger entry that is damaged, or belongs to other rows than its name says."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerEntry:
    """What is known about a complete shard.

    Args:
        shard, variant: which shard.
        tokens: its rows in order.
        digests: by array, a digest per row of the uncompressed values (`schema.row_digest`).
        statistics: by feature map, over the whole shard.
        bytes_on_disk: compressed size of all arrays of the shard.
        write_seconds: encoding and writing.
        software: version by package name.
        written_at: ISO 8601, UTC.
        sources: what its sensor files were; None where there were none, and in entries of versions
            of frozen-cmt that did not digest them.
        identity: of its rows, `identity.rows_digest`; None in entries of versions of frozen-cmt
            that did not record it.
    """

    shard: int
    variant: int
    tokens: tuple[str, ...]
    digests: dict[str, tuple[str, ...]]
    statistics: dict[str, Statistics]
    bytes_on_disk: int
    write_seconds: float
    software: dict[str, str]
    written_at: str
    sources: ShardSources | None = None
    identity: str | None = None


@dataclass(frozen=True, slots=True)
class Ledger:
    """The ledger of the store at `store`."""

    store: StorePath

    def path(self, shard: int) -> StorePath:
        """Return the file of a shard's entry, whether it exists or not."""
        return self.store / LEDGER_GROUP / f"{shard:06d}.json"

    def listed(self) -> Iterator[int]:
        """Yield the shards that have an entry, in any order; one directory listing."""
        for name in (self.store / LEDGER_GROUP).names():
            stem = name.removesuffix(".json")
            if stem != name and stem.isdigit():
                yield int(stem)

    def complete(self) -> frozenset[int]:
        """Return the shards that have an entry."""
        return frozenset(self.listed())

    def write(self, entry: LedgerEntry) -> bool:
        """Put an entry in place, complete or not at all; durable when this returns.

        Returns:
            False if there are no locks and another worker was first; its entry is kept.
        """
        path = self.path(entry.shard)
        if not path.create_whole(json_bytes(add_checksum(entry))):
            return False
        path.with_suffix(DAMAGED_SUFFIX).unlink(missing_ok=True)  # the shard is intact again
        return True

    def read(self, shard: int) -> LedgerEntry:
        """Read an entry as it is; `Store.entry` also makes sure that it belongs to the store.

        Raises:
            EntryError: if it is damaged.
        """
        path = self.path(shard)
        try:
            return from_json(LedgerEntry, remove_checksum(json.loads(path.read_bytes())))
        except ValueError as error:
            raise EntryError(f"ledger entry {path} is damaged ({error})") from error

    def fingerprint(self, shard: int) -> str:
        """Return the digest of an entry's file, damaged or not; empty if there is none."""
        try:
            return hashlib.sha256(self.path(shard).read_bytes()).hexdigest()
        except FileNotFoundError:
            return ""

    def drop(self, shard: int, fingerprint: str) -> bool:
        """Move an entry aside, so that its shard does not exist and is extracted again.

        Args:
            shard: number in the entry's name; the store need not have such a shard.
            fingerprint: of the entry to be dropped.

        Returns:
            False if the entry has been replaced since; it is left alone.
        """
        with self.lock(shard):
            if self.fingerprint(shard) != fingerprint:
                return False
            try:
                self.path(shard).move_aside(DAMAGED_SUFFIX)
            except FileNotFoundError:  # without locks, another repair has just done so
                return False
        return True

    @contextlib.contextmanager
    def lock(self, shard: int) -> Iterator[bool]:
        """Hold a shard while writing it; waits for another worker that holds it.

        The system drops the lock of a killed worker. Without it, two workers whose numbers differ
        in the last bit could leave an array of one beside the ledger entry of the other.

        A killed worker leaves the lock's file behind, beside partial files: these are looked for
        only then, because listing the folders of all arrays takes ten times as long as writing a
        shard of a store of thousands.

        Yields:
            Whether there may be partial files of a killed worker, which may be removed now. False
            where there are no locks, see `cache.coordination.claims`.
        """
        entry = self.path(shard)
        path = entry.with_suffix(".lock")
        was_there = path.exists()
        try:
            file = path.lock(is_patient=True)
        except NoLocksError:
            yield False
            return
        assert file is not None
        with file:
            # A worker that was killed in between left its mark in the file.
            has_partials = was_there or os.fstat(file.fileno()).st_size > 0
            file.truncate(MARK_BYTES)
            if has_partials:
                entry.remove_partials()
            yield has_partials
            # Whoever waits for this file, or makes a new one, sees the entry and has nothing to do.
            if entry.exists():
                path.unlink(missing_ok=True)
