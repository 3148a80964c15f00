"""Which shards a verification has found intact, so that an interrupted one can resume.

A file of its own in the ledger's directory, `ledger/verified.json`, or `verified_sources.json` for
a comparison with sensor files. Zarr readers do not look there; losing it costs time and nothing
else. A shard counts as checked only while its ledger entry is the one it was compared with, in a
store of the same identity and at the same place: the file travels with a copy, whose bytes nobody
has read. A verification that ends without damage removes the file: the next one reads everything.
"""

import contextlib
import json
import logging
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cache.coordination.ledger import LEDGER_GROUP
from cache.coordination.store import Store
from cache.format.checked_json import add_checksum, json_bytes, remove_checksum
from cache.format.identity import rows_digest
from cache.storage.bucket import RemoteError
from shared.config.config_json import from_json

ROWS_FILE, SOURCES_FILE = "verified.json", "verified_sources.json"
SAVED_EVERY_S = 5.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckedShard:
    """A shard that was read and is intact.

    Args:
        entry: fingerprint of the ledger entry it was compared with; then the digest of the store's
            identity, its place, and the dataset root, if any.
        at: ISO 8601, UTC.
    """

    entry: str
    at: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Record:
    shards: dict[int, CheckedShard] = field(default_factory=dict)


class VerificationProgress:
    """The shards that a verification has checked, saved to disk every few seconds.

    Args:
        store: being verified.
        anew: forget what an earlier verification checked.
        root: of the sensor files that it is compared with; None if its own rows are read.
    """

    def __init__(self, store: Store, *, anew: bool, root: Path | None = None) -> None:
        self._store = store
        ledger, identity = store.path / LEDGER_GROUP, rows_digest(store.metadata.identity, 0)
        of_root = [] if root is None else [str(root.resolve())]
        self._where = " ".join([identity, ledger.unique_place(), *of_root])
        self.is_of_files = root is not None
        self.path = ledger / (ROWS_FILE if root is None else SOURCES_FILE)
        self._checked = {} if anew else self._load()
        self._saved_at = time.monotonic()
        self._can_save = True

    def when(self, shard: int) -> str | None:
        """Return when a shard was read and found intact; None if it has to be read."""
        checked = self._checked.get(shard)
        if checked is None or checked.entry != self._key(self._store.ledger.fingerprint(shard)):
            return None
        return checked.at

    def add(self, shard: int, fingerprint: str) -> None:
        """Note an intact shard; on disk within seconds."""
        self._checked[shard] = CheckedShard(
            entry=self._key(fingerprint), at=datetime.now(UTC).isoformat(timespec="seconds")
        )
        if time.monotonic() - self._saved_at > SAVED_EVERY_S:
            self.save()

    def save(self) -> None:
        """Write the file, completely or not at all; warn where that is impossible."""
        self._saved_at = time.monotonic()
        if not self._can_save or not self._checked:
            return
        try:
            self.path.write_whole([json_bytes(add_checksum(_Record(shards=self._checked)))])
        except (OSError, RemoteError) as error:  # a store mounted read-only can be verified too
            self._can_save = False
            _log.warning(
                "progress cannot be saved, so a verification that is stopped starts over: %s", error
            )

    def forget(self) -> None:
        """Remove the file."""
        with contextlib.suppress(OSError, RemoteError):
            self.path.unlink(missing_ok=True)

    def _key(self, fingerprint: str) -> str:
        return f"{fingerprint} {self._where}"

    def _load(self) -> dict[int, CheckedShard]:
        try:
            return from_json(_Record, remove_checksum(json.loads(self.path.read_bytes()))).shards
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            _log.warning("%s is damaged (%s); every shard is read again", self.path, error)
            return {}
