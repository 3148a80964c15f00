"""Damage the files of a store, one at a time: is it detected and reported?"""

import random
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cache.coordination.store import open_store
from cache.format.metadata import NULL_GROUP
from cache.inspection.content_digest import content_digest
from cache.inspection.summary import describe, summary_as_text
from cache.reader import CachedFeatures
from cache.verification.verify_store import verify
from shared.config.config_json import to_json
from shared.data.features import FrameFeatures, as_floats
from shared.errors import FrozenCmtError

KINDS = {"flipped bit": 0.8, "truncated": 0.15, "zeroed block": 0.05}
BLOCK = 4096
FOUND_BY_READING, FOUND_BY_VERIFY, HARMLESS = "read", "verify", "harmless"
MISSED, CRASHED = "MISSED", "CRASHED"


@dataclass(kw_only=True, slots=True)
class FlipResult:
    """The damages done to a store, and what it reported.

    Args:
        trials: damages done, one at a time.
        outcomes: how often each kind of damage had each outcome: detected by reading, detected by
            verify, proven harmless (verify finds nothing and everything the store returns is as
            before), MISSED or CRASHED.
        by_group: the same by kind of file.
        failures: damages that were missed, or that crashed without a message.
    """

    trials: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    by_group: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether no damage was missed and nothing crashed."""
        return self.trials > 0 and not self.failures


@dataclass(frozen=True, kw_only=True, slots=True)
class _Content:
    """Everything a store returns."""

    metadata: dict[str, object]
    digest: str
    rows: list[FrameFeatures]


def damage_files(path: Path, trials: int, randomness: random.Random) -> FlipResult:
    """Damage file after file, restoring each afterwards.

    Args:
        path: a finished store, unchanged when this returns.
        trials: how often; all files are equally likely.
        randomness: chooses the file, the place and the kind of damage.
    """
    before, result = _content(path), FlipResult()
    outcomes: Counter[str] = Counter()
    by_group: Counter[str] = Counter()
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.stat().st_size)
    for _ in range(trials):
        file = randomness.choice(files)
        (kind,) = randomness.choices(tuple(KINDS), tuple(KINDS.values()))
        whole = file.read_bytes()
        what = _damage(file, whole, kind, randomness)
        outcome = _outcome(path, before)
        file.write_bytes(whole)
        result.trials += 1
        outcomes[f"{kind}: {outcome}"] += 1
        by_group[f"{_group(file.relative_to(path))}: {outcome}"] += 1
        if outcome.startswith((MISSED, CRASHED)):
            result.failures.append(f"{what} of {file.relative_to(path)}: {outcome}")
    result.outcomes, result.by_group = (
        dict(sorted(outcomes.items())),
        dict(sorted(by_group.items())),
    )
    assert _outcome(path, before) == HARMLESS  # everything is restored
    return result


def leave_traces(path: Path) -> None:
    """Add the files that interrupted and killed commands leave; none of them may matter."""
    ledger = path / "ledger"
    for name in ("000000.lock", "000001.claim"):
        (ledger / name).write_text("x")
    shutil.copy(ledger / "000000.json", ledger / "000002.damaged")
    (ledger / ".000001.json.77.partial").write_text('{"shard": 1')


def _damage(file: Path, whole: bytes, kind: str, randomness: random.Random) -> str:
    at = randomness.randrange(len(whole))
    content = bytearray(whole)
    if kind == "truncated":
        content = content[:at]
    elif kind == "zeroed block":
        content[at : at + BLOCK] = bytes(len(content[at : at + BLOCK]))
    else:
        bit = randomness.randrange(8)
        content[at] ^= 1 << bit
        kind = f"flipped bit {bit}"
    file.write_bytes(content)
    return f"{kind} at byte {at}"


def _outcome(path: Path, before: _Content) -> str:
    """Return how the damage was detected; a crash is any error without a message of ours."""
    try:
        try:
            summary_as_text(describe(open_store(path)))
            now = _content(path)
        except FrozenCmtError:
            return FOUND_BY_READING
        if verify(open_store(path), anew=True).damages:
            return FOUND_BY_VERIFY
        return HARMLESS if _is_same(before, now) else MISSED
    except Exception as error:  # exactly what this campaign looks for
        return f"{CRASHED} ({type(error).__name__}: {error})"


def _content(path: Path) -> _Content:
    source, store = CachedFeatures(path), open_store(path)
    return _Content(
        metadata=to_json(store.metadata),
        digest=content_digest(store, recompute=True),
        rows=[
            row for variant in range(source.variants) for row in source.read(source.tokens, variant)
        ],
    )


def _is_same(before: _Content, now: _Content) -> bool:
    return (before.metadata, before.digest) == (now.metadata, now.digest) and all(
        np.array_equal(as_floats(a.maps[name]), as_floats(b.maps[name]))
        for a, b in zip(before.rows, now.rows, strict=True)
        for name in a.maps
    )


def _group(file: Path) -> str:
    """Return what kind of file this is."""
    if file.parts[0] == NULL_GROUP:
        return "null features"
    if file.name == "zarr.json":
        return "zarr.json of the store" if len(file.parts) == 1 else "zarr.json below it"
    if file.parts[0] == "ledger":
        return "ledger entries" if file.stem.isdigit() and file.suffix == ".json" else "traces"
    return "list of samples" if file.parts[0] == "samples" else "shards"
