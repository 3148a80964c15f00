"""The null features of a store: the frozen part's answer to absent sensors, in their own store.

`STORE/null` is a feature store of one sample in one variant, made by the same weights, so it is
written, checked and repaired like any other. Its maps replace those of a sensor that is dropped.
"""

from cache.coordination.ledger import Ledger
from cache.coordination.store import Store, open_store
from cache.format.identity import Identity
from cache.format.metadata import METADATA_FILE, NULL_GROUP
from cache.format.samples import Samples
from cache.storage.protocol import StorePath
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
    one_variant = {"variants": 1, "variant_seed": None, "augmentation": None}
    return {**identity, **one_variant, "dataset": dataset}


def open_null(store: Store) -> Store | None:
    """Return the null features of a store, or None where there are none yet.

    Raises:
        CacheError: if they are damaged.
    """
    path = null_path(store.path)
    if (path / METADATA_FILE).exists():
        return open_store(path)
    # Where files are put one by one, some are there before the store is created.
    is_lost = path.exists() if path.creates_at_once else bool(Ledger(path).complete())
    if is_lost:
        raise CacheError(
            f"{path} has lost its {METADATA_FILE}; delete this directory and run the extraction "
            f"again, which computes the null features anew: {store.metadata.provenance.command}"
        )
    return None
