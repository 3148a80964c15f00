"""Which shards are complete: one small JSON file per shard, written when its bytes are on disk.

A shard without an entry does not exist, whatever lies in the arrays. Entries are
`ledger/000007.json`; the directory is a Zarr array without content, so that Zarr readers list the
store without complaint.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cache.format.statistics import Statistics
from cache.storage.file_lock import NO_LOCKS, lock_file
from cache.storage.location import (
    StorePath,
    create_json,
    for_each,
    move_aside,
    names_in,
    remove_partials,
)
from shared.config.config_json import from_json, to_json
from shared.digests import json_digest
from shared.errors import CacheError, ConfigError

GROUP = "ledger"
ABOUT = (
    "One JSON file per complete shard lies in this directory; a shard without one does not exist."
)
DAMAGED_SUFFIX = ".damaged"  # an entry that `feature-cache verify --repair` moved aside


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerEntry:
    """What is known of a complete shard.

    Args:
        shard, variant: which one.
        tokens: its rows in order.
        digests: by array, one digest per row of the uncompressed values (`schema.row_digest`).
        statistics: by feature map, over the whole shard.
        bytes_on_disk: compressed size of all arrays of the shard.
        write_seconds: encoding and writing.
        software: version by package name.
        written_at: ISO 8601, UTC.
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


@dataclass(frozen=True, slots=True)
class Ledger:
    """The ledger of the store at `store`."""

    store: StorePath

    def path(self, shard: int) -> StorePath:
        """Return where the entry of a shard lies, or would lie."""
        return self.store / GROUP / f"{shard:06d}.json"

    def listed(self) -> Iterator[int]:
        """Give the shards that have an entry, in any order; one directory listing."""
        for name in names_in(self.store / GROUP):
            stem = name.removesuffix(".json")
            if stem != name and stem.isdigit():
                yield int(stem)

    def complete(self) -> frozenset[int]:
        """Return the shards that have an entry."""
        return frozenset(self.listed())

    def write(self, entry: LedgerEntry) -> bool:
        """Put an entry in place, whole or not at all, on disk when this returns.

        Returns:
            False if there are no locks, and another worker was first; its entry is kept.
        """
        document = json.loads(json.dumps(to_json(entry), allow_nan=False))
        path = self.path(entry.shard)
        if not create_json(path, {**document, "checksum": json_digest(document)}):
            return False
        path.with_suffix(DAMAGED_SUFFIX).unlink(missing_ok=True)  # the shard is whole again
        return True

    def read(self, shard: int) -> LedgerEntry:
        """Read one entry.

        Raises:
            CacheError: if it is damaged.
        """
        path = self.path(shard)
        try:
            document = json.loads(path.read_bytes())
            if document.pop("checksum") != json_digest(document):
                raise ValueError("its checksum does not match")
            return from_json(LedgerEntry, document)
        except (ValueError, KeyError, AttributeError, TypeError, ConfigError) as error:
            raise CacheError(f"ledger entry {path} is damaged ({error})") from error

    def read_all(self, shards: Iterable[int]) -> list[LedgerEntry]:
        """Read the entries of several shards.

        Raises: as `read`.
        """
        return list(for_each(self.store, self.read, shards))

    def fingerprint(self, shard: int) -> str:
        """Return the digest of an entry's file, damaged or not; empty if there is none."""
        try:
            return hashlib.sha256(self.path(shard).read_bytes()).hexdigest()
        except FileNotFoundError:
            return ""

    def drop(self, shard: int, fingerprint: str) -> bool:
        """Move an entry aside, so that its shard does not exist and is extracted again.

        Args:
            shard: which; also one that the store does not have.
            fingerprint: of the entry that was found wanting.

        Returns:
            False if the entry is another one by now; it is left alone.
        """
        path = self.path(shard)
        with self.lock(shard):
            if self.fingerprint(shard) != fingerprint:
                return False
            move_aside(path, DAMAGED_SUFFIX)
        return True

    @contextlib.contextmanager
    def lock(self, shard: int) -> Iterator[bool]:
        """Hold a shard while writing it; waits for another worker on the same one.

        The system drops the lock of a killed worker. Without it, two workers whose numbers differ
        in the last bit could leave one worker's array beside the other's ledger entry.

        Yields:
            Whether the lock is held; False where there are none, see `cache.coordination.claims`.
        """
        path = self.path(shard).with_suffix(".lock")
        try:
            file = lock_file(path, is_patient=True)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            yield False
            return
        assert file is not None
        with file:
            remove_partials(self.path(shard))
            yield True
            # Whoever waits on this file, or makes a new one, finds the entry and has nothing to do.
            if self.path(shard).exists():
                path.unlink(missing_ok=True)
