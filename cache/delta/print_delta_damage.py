"""What `feature-cache verify` prints of a delta: of every store inside that has rows."""

from collections.abc import Callable

from cache.coordination.store import Store
from cache.coordination.store_inside import InsideError
from cache.delta.delta_metadata import finish_command, read_delta
from cache.delta.delta_rows import needed_parts, open_part
from cache.storage.protocol import StorePath
from cache.verification.check_rows import Damage


def print_delta_damage(path: StorePath, check: Callable[[Store], int], *, with_files: bool) -> int:
    """Check every store inside a delta that has rows; one that is lost or not its own is damage.

    Args:
        path: the delta store.
        check: prints what is wrong with a store, and returns the exit status.
        with_files: only stores whose rows are made from sensor files.
    """
    metadata, status = read_delta(path), 0
    needed = needed_parts(metadata.plan, with_files=with_files)
    if not needed:
        print(f"{path} has no rows of its own{' made from sensor files' if with_files else ''}")
    for part in needed:
        try:
            store = open_part(path, metadata, part)
        except InsideError as error:
            print(
                Damage(
                    where=f"{part} rows of {path}",
                    problem=str(error),
                    remedy="The rest of the delta is not affected",
                )
            )
            status = 1
            continue
        if store is None:
            command = finish_command(path, metadata)
            print(f"{path / part}: its rows are missing. Finish the delta with: {command}")
            continue
        status = max(status, check(store))
    return status
