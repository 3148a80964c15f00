"""Train on a part of a store: a share of its samples or scenes, or those that a file lists.

A share is drawn by the digests of names, so it is the same in every store of the same samples,
whatever their order, and a larger share contains a smaller one of the same seed.
"""

import difflib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from shared.data.feature_store import FeatureStore
from shared.digests import json_digest
from shared.errors import ConfigError

Unit = Literal["samples", "scenes"]
MOST_NAMED = 3  # names that the store lacks, in a message


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """Samples or whole scenes drawn at random.

    Args:
        unit: what is drawn.
        share: of all of them, above 0 and at most 1; rounded to a whole number.
        seed: another one draws others.
    """

    unit: Unit
    share: float
    seed: int = 0


Subset = Share | Path  # a file has a sample token or the name of a scene in each line


def subset_tokens(store: FeatureStore, subset: Subset | None) -> tuple[str, ...]:
    """Return the tokens of a subset, in the store's order; of all samples without one.

    Raises:
        ConfigError: if there is no sample in it, or a file names what the store does not have.
    """
    if subset is None:
        return store.tokens
    if isinstance(subset, Path):
        names = _listed_in(subset)
        _require_known(store, names, subset)
    else:
        names = _drawn(store, subset)
    chosen = zip(store.tokens, store.scenes, strict=True)
    return tuple(token for token, scene in chosen if token in names or scene in names)


def subset_record(subset: Subset | None, tokens: Sequence[str]) -> dict[str, Any] | None:
    """Return what a run's config says of its subset; where a file lies is left out."""
    if subset is None:
        return None
    how = "listed" if isinstance(subset, Path) else _described(subset)
    return {"chosen": how, "samples": len(tokens), "digest": json_digest(list(tokens))}


def _described(subset: Share) -> str:
    return f"{subset.share:g} of the {subset.unit}, seed {subset.seed}"


def _drawn(store: FeatureStore, subset: Share) -> set[str]:
    names = sorted(set(store.tokens if subset.unit == "samples" else store.scenes))
    count = round(subset.share * len(names))
    if not count:
        raise ConfigError(
            f"{subset.share:g} of the {len(names)} {subset.unit} of {store.path} is none; "
            f"the smallest share with one is {1 / len(names):.2g}"
        )
    return set(sorted(names, key=lambda name: _rank(name, subset.seed))[:count])


def _rank(name: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed} {name}".encode()).digest()


def _listed_in(file: Path) -> set[str]:
    try:
        lines = file.read_text("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{file}: expected a text file with a name in each line, got {error}"
        ) from error
    names = {line.strip() for line in lines} - {""}
    if not names:
        raise ConfigError(
            f"{file} is empty; expected a sample token or the name of a scene in each line"
        )
    return names


def _require_known(store: FeatureStore, names: set[str], file: Path) -> None:
    known = {*store.tokens, *store.scenes}
    unknown = sorted(names - known)
    if not unknown:
        return
    hints = []
    for name in unknown[:MOST_NAMED]:
        near = difflib.get_close_matches(name, known, n=1)
        hints.append(f"{name} (near: {near[0]})" if near else name)
    more = f" and {len(unknown) - MOST_NAMED} more" if len(unknown) > MOST_NAMED else ""
    raise ConfigError(
        f"{file} names what {store.path} does not hold: {', '.join(hints)}{more}. Expected sample "
        f"tokens, or scenes as the store calls them, by their log: {store.scenes[0]}, for example"
    )
