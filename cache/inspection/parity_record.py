"""The certificate of a store: what its last `check-parity` found, kept beside the ledger.

A file of its own in the ledger's directory, `ledger/parity.json`, where Zarr readers do not look.
It is no part of the content: no digest covers it, and a store is complete and intact without it. It
holds for the content that was checked; once rows were added or written again it is stale.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from cache.coordination.ledger import LEDGER_GROUP
from cache.coordination.null_store import open_null
from cache.coordination.store import Store
from cache.format.checked_json import add_checksum, json_bytes, remove_checksum
from cache.inspection.content_digest import content_digest
from cache.storage.bucket import RemoteError
from cache.storage.protocol import StorePath
from shared.config.config_json import from_json
from shared.digests import json_digest
from shared.errors import CacheError

FILE_NAME = "parity.json"
NOT_CHECKED = "not checked; `check-parity` compares a store with the live backbones"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckedContent:
    """What was checked.

    Args:
        identity_digest, content_digest: of the store.
        ledger_digest: of the ledger's files, which settles most comparisons without reading them.
    """

    identity_digest: str
    content_digest: str
    ledger_digest: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ParityRecord:
    """The result of a parity check; a certificate, if it passed.

    Args:
        content: what was checked.
        failed: quantities outside their tolerance, e.g. "camera/stride16 at batch size 1".
        rows, total_rows: compared, and in the store.
        variants: those that compared rows belong to.
        detector_samples: rows that went through the detector.
        seed: that the rows were drawn with.
        found_share: a fault in this share of the rows is found with 95% probability.
        head: where necks and head came from.
        device: that the live side ran on.
        software: version by package name.
        margins: by quantity, the difference as a share of what is allowed, the worst of all batch
            sizes; None if it is not finite.
        at: ISO 8601, UTC.
    """

    content: CheckedContent
    failed: tuple[str, ...]
    rows: int
    total_rows: int
    variants: tuple[int, ...]
    detector_samples: int
    seed: int
    found_share: float
    head: str
    device: str
    software: dict[str, str]
    margins: dict[str, float | None]
    at: str


def record_path(store: Store) -> StorePath:
    """Return where the record of a store is."""
    return store.path / LEDGER_GROUP / FILE_NAME


def checked_content(store: Store) -> CheckedContent:
    """Return what a record says of a finished store's content.

    Raises:
        CacheError: if rows are missing.
    """
    # The ledger first: of a shard written again in between it then has the earlier entry, which is
    # no longer there, so that the content decides.
    ledger = ledger_digest(store)
    return CheckedContent(
        identity_digest=json_digest(store.metadata.identity),
        content_digest=content_digest(store),
        ledger_digest=ledger,
    )


def read_record(file: StorePath) -> ParityRecord | None:
    """Return the record in a file, whether it is stale or not; None if there is none.

    Raises:
        CacheError: if it is damaged.
    """
    try:
        return from_json(ParityRecord, remove_checksum(json.loads(file.read_bytes())))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise CacheError(
            f"{file} is damaged ({error}); `check-parity` writes it anew. The features are not "
            "affected"
        ) from error


def has_content(store: Store, checked: CheckedContent) -> bool:
    """Return whether a store still has a content that was recorded."""
    if checked.identity_digest != json_digest(store.metadata.identity):
        return False
    if checked.ledger_digest == ledger_digest(store):
        return True
    try:  # a shard that was written again may hold the same
        return checked.content_digest == content_digest(store)
    except CacheError:
        return False


def write_record(store: Store, record: ParityRecord) -> None:
    """Keep the result of a check of a store, see `write_record_at`."""
    write_record_at(record_path(store), record, partial(has_content, store))


def write_record_at(
    file: StorePath, record: ParityRecord, is_current: Callable[[CheckedContent], bool]
) -> None:
    """Keep the result of a check, unless a wider one of the same content is there.

    A check that failed replaces any; one that passed does not replace a check of more rows. Where
    the file cannot be written, this warns.

    Args:
        file: where the record is.
        record: to keep.
        is_current: whether what was checked still has this content.
    """
    try:
        before = read_record(file)
    except CacheError:
        before = None
    is_narrower = before is not None and record.rows < before.rows
    if before is not None and is_narrower and not record.failed and is_current(before.content):
        _log.info("the earlier parity check of more rows is kept: %s", _told(before))
        return
    try:
        file.write_whole([json_bytes(add_checksum(record))])
    except (OSError, RemoteError) as error:
        _log.warning(
            "%s cannot be written (%s), so the store does not show this result%s",
            file,
            error,
            " and still shows an earlier one" if before is not None else "",
        )


def parity_note(store: Store) -> str:
    """Return in a line what the last parity check says of a store's present content."""
    return parity_note_at(record_path(store), partial(has_content, store))


def parity_note_at(file: StorePath, is_current: Callable[[CheckedContent], bool]) -> str:
    """Return in a line what a record says; arguments as of `write_record_at`."""
    try:
        record = read_record(file)
    except CacheError as error:
        return str(error)
    if record is None:
        return NOT_CHECKED
    if not is_current(record.content):
        return (
            f"stale: checked at {record.at}, and rows were added or written again since; run "
            "`check-parity` again"
        )
    return _told(record)


def _told(record: ParityRecord) -> str:
    rows = f"{record.rows} of {record.total_rows} rows at {record.at} on {record.device}"
    if record.failed:
        return (
            f"FAILED: {len(record.failed)} quantities outside their tolerance, first "
            f"{record.failed[0]} ({rows}); do not train from this store"
        )
    if record.rows == record.total_rows:
        return f"holds: {rows}"
    share = f"{100 * record.found_share:.3g}%"
    return f"holds: {rows}, which finds a fault in {share} of the rows with 95% probability"


def ledger_digest(store: Store) -> str:
    """Return the digest of the ledger's files, which changes whenever a shard is written."""
    null = open_null(store)
    entries = list(store.path.for_each(store.ledger.fingerprint, store.all_shards))
    return json_digest([entries, None if null is None else null.ledger.fingerprint(0)])
