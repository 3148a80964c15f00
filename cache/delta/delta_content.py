"""The digest of a delta's content, and the certificate of its last `check-parity`.

The certificate is `DELTA/parity.json`, and as that of a store no part of the content.
"""

from collections.abc import Mapping

from cache.coordination.store import Store
from cache.delta.delta_metadata import DeltaMetadata
from cache.delta.delta_rows import Part
from cache.inspection.content_digest import content_digest
from cache.inspection.parity_record import (
    FILE_NAME,
    CheckedContent,
    ParityRecord,
    ledger_digest,
    parity_note_at,
    write_record_at,
)
from cache.storage.protocol import StorePath
from shared.config.config_json import to_json
from shared.digests import json_digest
from shared.errors import CacheError


class DeltaContent:
    """What a delta holds at present.

    Args:
        path: the delta store.
        metadata: its document.
        parts: the stores inside it.
    """

    def __init__(
        self, path: StorePath, metadata: DeltaMetadata, parts: Mapping[Part, Store]
    ) -> None:
        self._path, self._metadata, self._parts = path, metadata, parts

    def digest(self, *, recompute: bool = False) -> str:
        """Return the content digest: equal for equal features beside equal bases.

        Args:
            recompute: read every byte of the rows again.

        Raises:
            CacheError: if rows are missing, or (when recomputing) damaged.
        """
        return json_digest(
            {
                "base": self._metadata.base.content_digest,
                "cameras": self._metadata.cameras,
                "plan": to_json(self._metadata.plan),
                "parts": {
                    part: content_digest(store, recompute=recompute)
                    for part, store in self._parts.items()
                },
            }
        )

    def checked(self) -> CheckedContent:
        """Return what a parity record says of the content; raises as `digest`."""
        return CheckedContent(
            identity_digest=json_digest(self._metadata.identity),
            content_digest=self.digest(),
            ledger_digest=self._ledger_digest(),
        )

    def is_still(self, checked: CheckedContent) -> bool:
        """Return whether this is the content that was checked."""
        if checked.identity_digest != json_digest(self._metadata.identity):
            return False
        if checked.ledger_digest == self._ledger_digest():
            return True
        try:  # a shard that was written again may hold the same
            return checked.content_digest == self.digest()
        except CacheError:
            return False

    def keep(self, record: ParityRecord) -> None:
        """Keep the result of a parity check, as `write_record` does."""
        write_record_at(self._path / FILE_NAME, record, self.is_still)

    def parity_note(self) -> str:
        """Return in a line what the last parity check says of the present content."""
        return parity_note_at(self._path / FILE_NAME, self.is_still)

    def _ledger_digest(self) -> str:
        return json_digest({part: ledger_digest(store) for part, store in self._parts.items()})
