"""`feature-cache verify`: what it prints of a store or a delta, and its exit status."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tqdm import tqdm

from cache.coordination.ledger import DAMAGED_SUFFIX
from cache.coordination.store import Store, open_store
from cache.coordination.store_inside import InsideError
from cache.delta.delta_metadata import finish_command, is_delta, read_delta
from cache.delta.delta_rows import needed_parts, open_part
from cache.storage.protocol import StorePath
from cache.verification.check_rows import Damage
from cache.verification.verify_store import verify, verify_sources


def print_damage(
    path: StorePath, *, workers: int, anew: bool, repair: bool, root: Path | None
) -> int:
    """Verify a store, or its sensor files in `root`; return 1 and print what is not as it was."""
    check = partial(_print_store_damage, workers=workers, anew=anew, repair=repair, root=root)
    if is_delta(path):
        return _print_delta_damage(path, check, with_files=root is not None)
    return check(open_store(path))


def _print_delta_damage(path: StorePath, check: Callable[[Store], int], *, with_files: bool) -> int:
    """Check every store inside a delta that has rows; a lost one is damage."""
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


def _print_store_damage(
    store: Store, *, workers: int, anew: bool, repair: bool, root: Path | None
) -> int:
    """Verify a store, see `print_damage`."""

    def report(damage: Damage) -> None:
        tqdm.write(str(damage), file=sys.stdout)

    if root is None:
        outcome = verify(store, workers=workers, anew=anew, repair=repair, report=report)
        files, read, bad, good = "", "and were read again", "{} damaged", "all as written"
    else:
        outcome = verify_sources(store, root, workers=workers, anew=anew, report=report)
        files, read, bad = ", and their sensor files", "were read again", "differences: {}"
        good = "all as they were extracted"
    complete = outcome.rows_read + outcome.rows_before
    if outcome.rows_before:
        read = (
            f"({outcome.rows_read} read now, {outcome.rows_before} since {outcome.before}; --anew "
            "reads all)"
        )
    result = bad.format(len(outcome.damages)) if outcome.damages else good
    print(f"{complete} of {store.layout.rows} rows are complete{files} {read}: {result}")
    if outcome.dropped:
        entries = ", ".join(str(entry).removeprefix(f"{store.path}/") for entry in outcome.dropped)
        print(
            f"moved aside: {entries} (now *{DAMAGED_SUFFIX}). Rebuild these shards with: "
            f"{store.metadata.provenance.command}"
        )
    elsewhere = sum(damage.shard is None for damage in outcome.damages)
    if repair and elsewhere:
        print(f"{elsewhere} of these cannot be repaired: they are not in shards, see above")
    return 1 if outcome.damages else 0
