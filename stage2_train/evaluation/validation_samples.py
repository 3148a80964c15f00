"""Which samples a validation takes, which stores it can be made on, and what is left to it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from shared.data.feature_store import FeatureStore
from shared.errors import ConfigError, IdentityError

HELD_OUT = ("val", "test", "trainval")  # words in the name of an info file


def evenly_spread(tokens: Sequence[str], count: int | None) -> tuple[str, ...]:
    """Return `count` of the tokens, evenly spread over their order; all if there are fewer.

    Stores hold scenes one after the other, so every scene has its share, and every run of a store
    takes the same samples.
    """
    if count is None or count >= len(tokens):
        return tuple(tokens)
    return tuple(tokens[i * len(tokens) // count] for i in range(count))


def require_validation_store(store: FeatureStore, training: FeatureStore) -> None:
    """Check that a store can say how well a detector does that is trained on another one.

    Raises:
        CacheError: if it is incomplete.
        IdentityError: if its features are of other backbones, branches or cut.
        ConfigError: if it holds samples that are trained on.
    """
    if store.features_digest != training.features_digest:
        raise IdentityError(
            f"{store.path} was extracted with other backbone weights, another preset or another "
            f"cut than {training.path}, so its features mean something else; validate on a store "
            f"of the same extraction (`feature-cache diff {training.path} {store.path}` says what "
            "differs)"
        )
    store.require_complete()
    shared = set(store.tokens).intersection(training.tokens)
    if shared:
        raise ConfigError(
            f"{len(shared)} of the {len(store.tokens)} samples of {store.path} (such as "
            f"{min(shared)}) are also in {training.path}: a detector that is chosen by samples it "
            "was trained on is the one that has memorised them. Validate on scenes that are not "
            "trained on; evaluate-stage2 scores training samples, too"
        )


def held_out_note(path: object, dataset: Mapping[str, Any]) -> str | None:
    """Return what to say before training on samples that detectors are judged on; None if on none.

    Args:
        path: the store to train from.
        dataset: the options that chose its samples, of its provenance; empty in old stores. Of an
            info file only the name says the split: nothing in it does.
    """
    infos, splits = dataset.get("infos"), dataset.get("split", "")
    if infos:
        option = f"--infos {infos}"
        held_out = [word for word in re.findall("[a-z]+", infos.lower()) if word in HELD_OUT]
    else:
        option = f"--split {splits}"
        held_out = [name for name in splits.split("+") if name and "train" not in name]
    if not held_out:
        return None
    return (
        f"{path} holds samples of {' and '.join(held_out)}, on which detectors are judged "
        f"(it was extracted with {option}). Metrics on samples that were trained on say nothing "
        "about new scenes: judge this run on others"
    )
