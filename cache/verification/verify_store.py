"""A verification from start to end: parallel, interruptible, resumable, and able to repair.

Threads, not processes: all but a few percent of the work (decompression, digests, NumPy) releases
Python's global lock, so threads read as fast as spawned processes (LOG.md), start at once and can
be stopped between two rows.
"""

import contextlib
import threading
from collections.abc import Callable, Generator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from cache.coordination.null_store import null_problem, open_null
from cache.coordination.store import Store
from cache.format.metadata import read_metadata
from cache.format.schema import row_bytes
from cache.storage.protocol import StorePath
from cache.verification.check_rows import Damage, metadata_damage, shard_damage
from cache.verification.check_sources import source_damage
from cache.verification.progress import VerificationProgress
from cache.verification.read_progress import ReadProgress
from shared.errors import CacheError, DatasetError, InterruptedWorkError
from shared.process.interrupts import Interrupts

QUEUED_PER_WORKER = 2
POLL_S = 0.2  # delay until Ctrl-C is noticed, at most

Check = Callable[[int, threading.Event], list[Damage]]  # of a shard, until the event is set


@dataclass(kw_only=True, slots=True)
class Outcome:
    """The result of a verification.

    Args:
        rows_read: rows read now, including damaged ones, but not the null features.
        rows_before: rows not read, because an interrupted verification found them intact.
        before: when the first of these was read, ISO 8601.
        damages: everything that is wrong.
        dropped: ledger entries that were moved aside.
    """

    rows_read: int = 0
    rows_before: int = 0
    before: str = ""
    damages: list[Damage] = field(default_factory=list)
    dropped: list[StorePath] = field(default_factory=list)


def verify(
    store: Store,
    *,
    workers: int = 1,
    anew: bool = False,
    repair: bool = False,
    report: Callable[[Damage], None] = lambda _: None,
) -> Outcome:
    """Read every complete row again and compare it with the ledger.

    Args:
        store: finished or not; shards without a ledger entry do not exist and are skipped.
        workers: threads.
        anew: also read what an interrupted verification found intact.
        repair: move the ledger entries of damaged shards aside, so that they are extracted again.
        report: called with each damage as soon as it is known.

    Raises:
        InterruptedWorkError: on Ctrl-C or SIGTERM; what was found intact is noted.
        CacheError: if a file cannot be read now, which says nothing about its content.
    """
    null = _verify_null(store, anew=anew, repair=repair, report=report)  # first: it is one row
    outcome = _verify_rows(store, workers, anew=anew, repair=repair, report=report)
    outcome.damages[:0] = null.damages
    outcome.dropped[:0] = null.dropped
    return outcome


def _verify_null(
    store: Store, *, anew: bool, repair: bool, report: Callable[[Damage], None]
) -> Outcome:
    """Do the same for the null features, which are a store of their own."""
    problem = null_problem(store)
    if problem is not None:
        damage = Damage(
            where="null features", problem=problem, remedy="The rows of samples are not affected"
        )
        report(damage)
        return Outcome(damages=[damage])
    null = open_null(store)
    if null is None:
        return Outcome()
    return _verify_rows(null, 1, anew=anew, repair=repair, report=report)


def _verify_rows(
    store: Store, workers: int, *, anew: bool, repair: bool, report: Callable[[Damage], None]
) -> Outcome:
    outcome = Outcome(damages=[*metadata_damage(store)])
    for damage in outcome.damages:
        report(damage)
    progress, check = VerificationProgress(store, anew=anew), partial(shard_damage, store)
    _check_shards(store, check, progress, outcome, workers, repair=repair, report=report)
    return outcome


def verify_sources(
    store: Store,
    root: Path,
    *,
    workers: int = 1,
    anew: bool = False,
    report: Callable[[Damage], None] = lambda _: None,
) -> Outcome:
    """Read the sensor files of every complete row again and compare them with the ledger.

    Args:
        store: finished or not.
        root: dataset root.
        workers: threads.
        anew: also read what an interrupted verification against this root has compared.
        report: called with each difference as soon as it is known.

    Raises:
        InterruptedWorkError: on Ctrl-C or SIGTERM; what was compared is noted.
        DatasetError: if `root` is no folder, or a file cannot be read now.
    """
    if not root.is_dir():
        raise DatasetError(f"{root} is not a folder; name the nuScenes root with --nuscenes")
    outcome, progress = Outcome(), VerificationProgress(store, anew=anew, root=root)
    check = partial(source_damage, store, root)
    _check_shards(store, check, progress, outcome, workers, repair=False, report=report)
    return outcome


def _check_shards(
    store: Store,
    check: Check,
    progress: VerificationProgress,
    outcome: Outcome,
    workers: int,
    *,
    repair: bool,
    report: Callable[[Damage], None],
) -> None:
    """Check every complete shard that `progress` does not know, and add to `outcome`."""
    todo = _unread(store, progress, outcome)
    rows = store.rows_in(frozenset(todo))
    if progress.is_of_files:
        reading = ReadProgress(f"sensor files of {store.path}", rows)
    else:
        reading = ReadProgress(f"rows of {store.path}", rows, row_bytes(store.arrays))
    try:
        with contextlib.closing(_read(store, check, todo, workers, outcome, reading)) as results:
            for shard, fingerprint, damages in results:
                outcome.rows_read += store.rows_in(frozenset([shard]))
                outcome.damages += damages
                for damage in damages:
                    report(damage)
                if not damages:
                    progress.add(shard, fingerprint)
                elif repair and _drop(store, shard, fingerprint):
                    outcome.dropped.append(store.ledger.path(shard))
    except BaseException:
        progress.save()
        raise
    if any(damage.shard is not None for damage in outcome.damages):
        progress.save()  # after the repair only the rebuilt shards need to be read
    else:
        progress.forget()


def _drop(store: Store, shard: int, fingerprint: str) -> bool:
    """Move a ledger entry aside, unless it has been replaced."""
    try:
        return store.ledger.drop(shard, fingerprint)
    except OSError as error:
        raise CacheError(
            f"ledger entry {store.ledger.path(shard)} cannot be moved aside: {error.strerror}. "
            "Resolve this and run the same command again"
        ) from error


def _unread(store: Store, progress: VerificationProgress, outcome: Outcome) -> list[int]:
    """Return the complete shards that have to be read; count the others."""
    todo = []
    # The variants of the same samples together: they were made from the same sensor files.
    per_variant = store.layout.shards_per_variant
    complete = store.ledger.complete()
    if any(shard not in store.all_shards for shard in complete):
        added = range(store.layout.shard_count, read_metadata(store.path).layout.shard_count)
        complete -= frozenset(added)  # variants that another command has added since it was opened
    order = sorted(complete, key=lambda shard: (shard % per_variant, shard))
    for shard in order:
        when = progress.when(shard)
        if when is None:
            todo.append(shard)
        else:
            outcome.rows_before += store.rows_in(frozenset([shard]))
            outcome.before = min(outcome.before or when, when)
    return todo


def _read(
    store: Store,
    check: Check,
    todo: list[int],
    workers: int,
    outcome: Outcome,
    reading: ReadProgress,
) -> Generator[tuple[int, str, list[Damage]], None, None]:
    """Check shards in parallel; yield each when it is done, with the entry it was compared with."""
    stop, waiting = threading.Event(), iter(todo)
    active: dict[Future[list[Damage]], tuple[int, str]] = {}
    pool = ThreadPoolExecutor(workers)
    with Interrupts() as interrupts, reading:
        try:
            while True:
                while len(active) < QUEUED_PER_WORKER * workers:
                    shard = next(waiting, None)
                    if shard is None:
                        break
                    key = shard, store.ledger.fingerprint(shard)
                    active[pool.submit(check, shard, stop)] = key
                if not active:
                    return
                done, _ = wait(active, timeout=POLL_S, return_when=FIRST_COMPLETED)
                for future in done:
                    shard, fingerprint = active.pop(future)
                    reading.add(store.rows_in(frozenset([shard])))
                    yield shard, fingerprint, future.result()
                if interrupts.signum is not None:
                    raise _stopped(outcome, len(todo), interrupts.signum)
        finally:
            stop.set()  # shards being read are given up at their next row
            pool.shutdown(cancel_futures=True)


def _stopped(outcome: Outcome, shards: int, signum: int) -> InterruptedWorkError:
    damages = f"{len(outcome.damages)} damaged" if outcome.damages else "no damage so far"
    return InterruptedWorkError(
        f"{outcome.rows_read} rows of {shards} shards were read, {damages}; the same command "
        "resumes where this one stopped, --anew starts from the beginning",
        signum,
    )
