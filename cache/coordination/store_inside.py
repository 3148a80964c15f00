"""A store inside a store or a delta: opened only where it belongs.

`STORE/null`, and `camera`, `lidar` and `geometry` of a delta are ordinary stores. Their identities
say what they are inside of.
"""

from collections.abc import Callable

from cache.coordination.ledger import Ledger
from cache.coordination.store import Store, open_store
from cache.format.identity import Identity, explain_difference
from cache.format.metadata import METADATA_FILE
from cache.storage.bucket import RemoteError
from cache.storage.protocol import StorePath
from shared.errors import CacheError, IdentityError


class InsideError(CacheError):
    """A store inside a store or a delta that is there and cannot be used."""


def open_inside(
    path: StorePath, identity_of: Callable[[Store], Identity], command: str
) -> Store | None:
    """Open a store inside a store or a delta; None where there is none yet.

    Args:
        path: of the store inside.
        identity_of: what the identity of the opened store has to be to belong there.
        command: that makes it anew once its folder is gone.

    Raises:
        InsideError: if it has lost its metadata, that or its sample list is damaged, or it belongs
            to something else.
    """
    try:
        if (path / METADATA_FILE).exists():
            store = open_store(path)
            _require_belongs(store, identity_of(store))
            return store
        # Where files are put one by one, some are there before the store is created.
        if path.exists() if path.creates_at_once else Ledger(path).complete():
            raise CacheError(f"{path / METADATA_FILE} is lost; restore this file from a copy")
    except RemoteError:  # says nothing about what is there
        raise
    except CacheError as error:
        raise InsideError(
            f"{str(error).rstrip('.')}. Or move the folder {path} away and run this, which makes "
            f"it anew: {command}"
        ) from error
    return None


def _require_belongs(store: Store, identity: Identity) -> None:
    differences = explain_difference(
        store.metadata.identity, identity, names=("there", "in what it is inside of")
    )
    if differences:
        raise IdentityError(
            f"{store.path} belongs to something else:\n  "
            + "\n  ".join(differences)
            + "\nRestore this folder from a copy"
        )
