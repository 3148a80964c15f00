"""What `feature-cache verify` prints of a store, and its exit status."""

import sys
from pathlib import Path

from tqdm import tqdm

from cache.coordination.ledger import DAMAGED_SUFFIX
from cache.coordination.store import Store
from cache.verification.check_rows import Damage
from cache.verification.verify_store import verify, verify_sources


def print_store_damage(
    store: Store, *, workers: int, anew: bool, repair: bool, root: Path | None
) -> int:
    """Verify a store, or its sensor files in `root`; return 1 and print what is not as it was."""

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
            f"{store.command}"
        )
    elsewhere = sum(damage.shard is None for damage in outcome.damages)
    if repair and elsewhere:
        print(f"{elsewhere} of these cannot be repaired: they are not in shards, see above")
    return 1 if outcome.damages else 0
