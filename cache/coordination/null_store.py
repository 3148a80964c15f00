"""The null features of a store: the frozen part's answer to absent sensors, in a store of its own.

`STORE/null` is a feature store of one sample in one variant, made by the same weights, so it is
written, checked and repaired like any other. Its maps replace those of a sensor that is dropped.
"""

from cache.coordination.ledger import Ledger
from cache.coordination.store import Store, open_store
from cache.format.identity import Identity
from cache.format.metadata import METADATA_FILE, NULL_GROUP
from cache.format.samples import Samples
from cache.storage.location import StorePath
from cache.storage.object_path import ObjectPath
from shared.digests import json_digest
from shared.errors import CacheError

NULL_SAMPLES = Samples(tokens=("no-sensor",), scenes=("none",), timestamps_us=(0,))


def null_path(store: StorePath) -> StorePath:
    """Return where the null features of a store are."""
    return store / NULL_GROUP


def null_identity(identity: Identity) -> Identity:
    """Return the identity of the null features of a store with this identity."""
    dataset = {
        "version": "absent sensors",
        "tokens": json_digest(list(NULL_SAMPLES.tokens)),
        "inputs": json_digest([]),
    }
    alone = {"variants": 1, "variant_seed": None, "augmentation": None}
    return {**identity, **alone, "dataset": dataset}


def open_null(store: Store) -> Store | None:
    """Return the null features of a store, or None where there are none yet.

    Raises:
        CacheError: if what is there is damaged.
    """
    path = null_path(store.path)
    if (path / METADATA_FILE).exists():
        return open_store(path)
    # Of objects put one by one, the first are there before a store is.
    is_lost = bool(Ledger(path).complete()) if isinstance(path, ObjectPath) else path.exists()
    if is_lost:
        raise CacheError(
            f"{path} has lost its {METADATA_FILE}; delete this directory and run the extraction "
            f"again, which computes the null features anew: {store.metadata.provenance.command}"
        )
    return None
