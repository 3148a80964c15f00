"""Creating a folder on object storage: its objects, then the one that makes it count as created.

Of two commands that create different folders under one name, the first to put the first object that
differs goes on: all put them in the same order, and none replaces what is there.
"""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cache.storage.protocol import StorePath
from shared.errors import CacheError


@contextlib.contextmanager
def creating_objects(place: StorePath, last: str) -> Iterator[Path]:
    """Put the objects of a folder when the block ends without an error; see `StorePath.creating`.

    Objects that an interrupted creation of the same folder left are as they should be.
    """
    with tempfile.TemporaryDirectory() as scratch:
        building = Path(scratch)
        yield building
        files = {
            str(file.relative_to(building)): file for file in building.rglob("*") if file.is_file()
        }
        present = place.sizes().keys()
        if last in present:
            return
        if place.is_file() or not present <= files.keys():
            raise CacheError(
                f"there is something other than a feature store at {place}; choose a different "
                "--store. Nothing was changed."
            )
        root = files.pop(last)
        for key in sorted(files):
            if not (place / key).create_whole(files[key].read_bytes()):
                _require_created(place, key, last)
                return
        (place / last).create_whole(root.read_bytes())


def _require_created(place: StorePath, key: str, last: str) -> None:
    """Make sure that a folder in which an object differs is finished; then it is another's."""
    if not (place / last).is_file():
        raise CacheError(
            f"{place / key} is not what was to be put there: another command is creating a "
            f"different store at {place} just now, or was killed while it did. If one is, run this "
            f"command again when it has; if none is, delete what is below {place}, or choose a "
            "different --store. Nothing was changed."
        )
