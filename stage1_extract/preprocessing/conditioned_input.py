"""A condition and the samples it is applied to; processes get it by reference."""

from collections.abc import Sequence
from typing import Any

from shared.errors import ConfigError
from stage1_extract.conditions.apply_condition import SampleChanges, changed_poses, edits_of
from stage1_extract.conditions.condition import Condition
from stage1_extract.conditions.sample_edits import SampleEdits, StuckAt
from stage1_extract.conditions.stuck_sensors import stuck_record
from stage1_extract.nuscenes.records import SampleRecord


class ConditionedInput:
    """What a condition does to each of these samples.

    Functions do not travel between processes: whoever receives one loads the condition again when
    it first needs it, and makes sure that it is the same.

    Args:
        ref: a name of the catalogue, or file.py:function, see `load_condition`.
        records: all samples at hand, those that a sensor may be stuck at included.
    """

    def __init__(self, ref: str, records: Sequence[SampleRecord]) -> None:
        self.ref = ref
        self._condition: Condition | None = _loaded(ref)
        self._identity = self._condition.identity
        edits = edits_of(self._condition, records)
        self.edits = {record.token: edit for record, edit in zip(records, edits, strict=True)}
        by_token = {record.token: record for record in records}
        stuck_at = {token for edit in edits for token in _stuck_at(edit)}
        self._earlier = {token: by_token[token] for token in stuck_at if token in by_token}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_condition": None}

    @property
    def condition(self) -> Condition:
        """The condition.

        Raises:
            ConfigError: if this was sent to a process where `ref` has come to define another one.
        """
        if self._condition is None:
            condition = _loaded(self.ref)
            _require_same(self.ref, self._identity, condition.identity)
            self._condition = condition
        return self._condition

    def of(self, record: SampleRecord) -> tuple[SampleChanges, SampleRecord]:
        """Return what happens to a sample, and the record of its files and its calibration."""
        edits = self.edits[record.token]
        posed = changed_poses(self.condition, record)
        files = stuck_record(posed, edits, self._earlier)
        return SampleChanges(self.condition, record, edits), files


def _loaded(ref: str) -> Condition:
    # Imported here: the catalogue needs scipy, and most loader processes need no condition.
    from stage1_extract.conditions.catalogue.condition_catalogue import load_condition

    return load_condition(ref)


def _require_same(ref: str, begun: dict[str, Any], now: dict[str, Any]) -> None:
    fields = [name for name in {**begun, **now} if begun.get(name) != now.get(name)]
    if fields:
        raise ConfigError(
            f"condition {ref} is not what it was when the command began: its {', '.join(fields)} "
            "differs where samples are loaded. Finished shards are of the earlier definition: "
            "restore that and run the same command again, or extract the later one into a "
            "different --store"
        )


def _stuck_at(edits: SampleEdits) -> list[str]:
    return [
        edit.token for edit in (edits.lidar, *edits.cameras.values()) if isinstance(edit, StuckAt)
    ]
