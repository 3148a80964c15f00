"""The document of a delta store: its base, its condition, and where every feature comes from.

    DELTA/
      delta.json       this document, with a checksum
      camera/          a feature store whose rows are changed views, "TOKEN/CAM_FRONT"
      lidar/           a feature store whose rows are changed samples
      geometry/        a feature store without maps: `img_from_lidar` where calibration changes

A store inside exists only if it has rows.
"""

import json
import shlex
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cache.coordination.resume_command import resume_command
from cache.delta.delta_plan import DeltaPlan
from cache.format.checked_json import add_checksum, json_bytes, remove_checksum
from cache.format.identity import Identity, require_identity
from cache.format.metadata import DELTA_FILE, METADATA_FILE, Provenance
from cache.inspection.parity_record import CheckedContent
from cache.storage.protocol import StorePath
from shared.config.classes import CAMERAS
from shared.config.config_json import from_json, to_json
from shared.digests import json_digest
from shared.errors import CacheError, ConfigError

DELTA_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class ConditionSummary:
    """What people call a condition.

    Args:
        name: "beams-4-even"; says whose definition it is.
        family: conditions of a family differ in severity or parameters.
        severity: 1 is mildest; None if the source has none.
        source: publication or repository.
    """

    name: str
    family: str
    severity: int | None
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DeltaMetadata:
    """What a delta store is.

    Args:
        version: of this document.
        condition: for people.
        condition_identity: everything that tells its results from those of any other condition.
        may_change_nothing: the condition is meant to leave features as they are.
        base: content of the base; the delta fits no other.
        base_identity: see `cache.format.identity`.
        base_path: where the base was, absolute unless an earlier version recorded it; for people.
        cameras: in the order in which the base's maps have them.
        plan: where every feature comes from.
        provenance, created_at: for people; the time is ISO 8601, UTC.
    """

    version: int = DELTA_VERSION
    condition: ConditionSummary
    condition_identity: dict[str, Any]
    may_change_nothing: bool
    base: CheckedContent
    base_identity: Identity
    base_path: str
    cameras: tuple[str, ...] = CAMERAS
    plan: DeltaPlan
    provenance: Provenance
    created_at: str = field(
        default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"),
    )

    @property
    def identity(self) -> Identity:
        """The base's identity, and what the delta adds to it."""
        return {
            **self.base_identity,
            "base_content": self.base.content_digest,
            "condition": self.condition_identity,
            "cameras": list(self.cameras),
            "plan": json_digest(to_json(self.plan)),
        }


def is_delta(path: StorePath) -> bool:
    """Return whether there is a delta store at `path`, finished or not."""
    return (path / DELTA_FILE).is_file()


def read_delta(path: StorePath) -> DeltaMetadata:
    """Read the document of the delta store at `path`.

    Raises:
        CacheError: if it is not a delta store, or is damaged or of a different version.
    """
    file = path / DELTA_FILE
    if not file.is_file():
        kind = "a feature store" if (path / METADATA_FILE).is_file() else "nothing of the kind"
        raise CacheError(
            f"{path} is not a delta store (it has no {DELTA_FILE}), but {kind}; "
            "`extract-features --condition ... --base STORE` makes one"
        )
    try:
        document = remove_checksum(json.loads(file.read_bytes()))
        version = document["version"]
    except (ValueError, KeyError) as error:
        raise CacheError(f"{file} is damaged ({error}); restore it from a copy") from error
    if version != DELTA_VERSION:
        raise CacheError(
            f"{path} is a delta store of version {version}, this version of frozen-cmt reads "
            f"version {DELTA_VERSION}; extract the delta again into a different --store"
        )
    try:
        return from_json(DeltaMetadata, document)
    except (ConfigError, CacheError) as error:
        raise CacheError(f"{file} is damaged ({error}); restore it from a copy") from error


def open_or_create_delta(path: StorePath, metadata: DeltaMetadata) -> DeltaMetadata:
    """Return the document at `path`, creating the delta store if there is none.

    Raises:
        IdentityError: if the delta there was made from something else; it is left as it is.
        CacheError: if there is something other than a delta store, or nothing would change.
    """
    if not metadata.plan.changes_anything and not metadata.may_change_nothing:
        raise CacheError(
            f"condition {metadata.condition.name} touches no sensor of any of the "
            f"{metadata.plan.samples} samples, so a delta store would be the clean one; check its "
            "`edits`, or let the condition say `may_change_nothing`. Nothing was written."
        )
    if not is_delta(path):
        if (path / METADATA_FILE).is_file():
            raise CacheError(
                f"{path} is a feature store, not a delta store; choose a different --store for "
                f"condition {metadata.condition.name}. Nothing was changed."
            )
        with path.creating(DELTA_FILE) as building:
            (building / DELTA_FILE).write_bytes(json_bytes(add_checksum(metadata)))
    present = read_delta(path)
    require_identity(path, present.identity, metadata.identity)
    return present


def finish_command(path: StorePath, metadata: DeltaMetadata) -> str:
    """Return the line to paste to finish or repair a delta store where it is now."""
    command = resume_command(metadata.provenance.command, path)
    return command or f"extract-features --store {shlex.quote(str(path))}"
