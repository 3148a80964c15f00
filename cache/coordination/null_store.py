"""The null features of a store: the frozen part's answer to absent sensors, in their own store.

`STORE/null` is a feature store of one sample in one variant, made by the same weights, so it is
written, checked and repaired like any other. Its maps replace those of a sensor that is dropped.
"""

from cache.coordination.store import Store
from cache.coordination.store_inside import InsideError, open_inside
from cache.format.identity import ABSENT_SENSORS, Identity, is_inside
from cache.format.metadata import NULL_GROUP
from cache.format.samples import Samples
from cache.storage.protocol import StorePath
from shared.digests import json_digest

NULL_SAMPLES = Samples(tokens=("no-sensor",), scenes=("none",), timestamps_us=(0,))


def null_path(store: StorePath) -> StorePath:
    """Return where the null features of a store are."""
    return store / NULL_GROUP


def null_identity(identity: Identity) -> Identity:
    """Return the identity of the null features of a store with this identity."""
    dataset = {
        "version": ABSENT_SENSORS,
        "tokens": json_digest(list(NULL_SAMPLES.tokens)),
        "inputs": json_digest([]),
    }
    one_variant = {"variants": 1, "variant_seed": None, "augmentation": None}
    return {**identity, **one_variant, "dataset": dataset}


def open_null(store: Store) -> Store | None:
    """Return the null features of a store, or None where there are none yet.

    Raises:
        InsideError: if they are damaged, or those of a different store.
    """
    identity = null_identity(store.metadata.identity)
    return open_inside(null_path(store.path), lambda _: identity, store.command)


def null_problem(store: Store) -> str | None:
    """Return what is wrong with the null features of a store; None if nothing is.

    `extract-features` writes them before any row, and it alone records a dataset in the provenance:
    stores that other programs made need not have them.
    """
    try:
        null = open_null(store)
    except InsideError as error:
        return str(error)
    is_extracted = bool(store.metadata.provenance.dataset)
    must_be_there = is_extracted and not is_inside(store.metadata.identity)
    is_there = null is not None and bool(null.ledger.complete())
    if is_there or not must_be_there or not store.ledger.complete():
        return None
    return (
        f"{null_path(store.path)} has no row, although `extract-features` writes it before any "
        f"other. Run the extraction again, which computes it anew: {store.command}"
    )
