"""Which shards a verification has found whole: so that one that was interrupted goes on.

A file of its own in the ledger's directory, `ledger/verified.json`, where Zarr readers do not look;
losing it costs time and nothing else. A shard counts as read only while its ledger entry is the one
it was read with. When a verification ends without damage the file goes: the next one reads all.
"""

import contextlib
import json
import logging
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from cache.coordination.ledger import GROUP
from cache.coordination.store import Store
from cache.storage.bucket import RemoteError
from cache.storage.location import write_json
from shared.config.config_json import from_json
from shared.digests import json_digest
from shared.errors import ConfigError

FILE_NAME = "verified.json"
SAVED_EVERY_S = 5.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """A shard that was read and is whole.

    Args:
        entry: fingerprint of the ledger entry it was compared with.
        at: ISO 8601, UTC.
    """

    entry: str
    at: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Record:
    shards: dict[int, Seen] = field(default_factory=dict)


class Verified:
    """The record of one verification, in memory and now and then on disk.

    Args:
        store: being verified.
        anew: forget what an earlier verification read.
    """

    def __init__(self, store: Store, *, anew: bool) -> None:
        self._store = store
        self.path = store.path / GROUP / FILE_NAME
        self._seen = {} if anew else self._load()
        self._saved_at = time.monotonic()
        self._can_save = True

    def when(self, shard: int) -> str | None:
        """Return when a shard was read and found whole; None if it has to be read."""
        seen = self._seen.get(shard)
        is_same = seen is not None and seen.entry == self._store.ledger.fingerprint(shard)
        return seen.at if seen is not None and is_same else None

    def add(self, shard: int, fingerprint: str) -> None:
        """Note a whole shard; on disk within seconds."""
        self._seen[shard] = Seen(
            entry=fingerprint, at=datetime.now(UTC).isoformat(timespec="seconds")
        )
        if time.monotonic() - self._saved_at > SAVED_EVERY_S:
            self.save()

    def save(self) -> None:
        """Write the file, whole or not at all; where that is not possible, say so and go on."""
        self._saved_at = time.monotonic()
        if not self._can_save or not self._seen:
            return
        document = _plain(_Record(shards=self._seen))
        try:
            write_json(self.path, {**document, "checksum": json_digest(document)})
        except (
            OSError,
            RemoteError,
        ) as error:  # a store that is mounted read-only can be verified, too
            self._can_save = False
            _log.warning(
                "what was read cannot be noted, so stopping means starting anew: %s", error
            )

    def forget(self) -> None:
        """Remove the file."""
        with contextlib.suppress(OSError, RemoteError):
            self.path.unlink(missing_ok=True)

    def _load(self) -> dict[int, Seen]:
        try:
            document = json.loads(self.path.read_bytes())
            if document.pop("checksum") != json_digest(document):
                raise ValueError("its checksum does not match")
            return from_json(_Record, document).shards
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, AttributeError, TypeError, ConfigError) as error:
            _log.warning("%s is damaged (%s); every shard is read again", self.path, error)
            return {}


def _plain(record: _Record) -> dict[str, Any]:
    """Return the record as it is after a journey through JSON, whose keys are text."""
    plain = json.loads(json.dumps(asdict(record)))
    assert isinstance(plain, dict)
    return plain
