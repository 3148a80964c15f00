"""Kill writers (-9) at random moments, repeatedly, and complete the store all the same."""

import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.validation.faults.workers import Worker
from cache.coordination.store import Store, open_store
from cache.format.metadata import METADATA_FILE
from cache.inspection.content_digest import content_digest
from cache.verification.verify_store import verify
from shared.process.whole_file import PARTIAL_SUFFIX

AFTER_START = 0.8  # share of the kills that wait until the worker has opened the store
Command = Callable[[Path, str], list[object]]  # (store, slice) -> a worker's command line


@dataclass(kw_only=True, slots=True)
class KillResult:
    """What happened to the stores of killed writers, added up.

    Args:
        writers: workers at a time.
        kills: processes killed while running.
        stores: stores completed afterwards.
        shards: shards of these stores.
        finished_at_kills: complete shards at the time of each kill, added up.
        recomputed: complete shards that were written again; must be 0.
        equal: stores whose content digest, recomputed from every byte, equals that of the
            undisturbed store; must be `stores`.
        damaged: damages detected by verify; must be 0.
        left_over: files of killed writers left in complete stores; harmless.
        seconds: wall clock.
    """

    writers: int
    kills: int = 0
    stores: int = 0
    shards: int = 0
    finished_at_kills: int = 0
    recomputed: int = 0
    equal: int = 0
    damaged: int = 0
    left_over: int = 0
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether nothing was lost, damaged or done twice."""
        return (self.recomputed, self.damaged, self.equal) == (0, 0, self.stores)


def kill_writers(
    command: Command,
    folder: Path,
    *,
    digest: str,
    writers: int,
    kills: int,
    write_s: float,
    random_moments: random.Random,
) -> KillResult:
    """Write store after store while killing writers, until enough have been killed.

    Args:
        command: of a worker.
        folder: for the stores; each is removed after its check.
        digest: content digest of the undisturbed store.
        writers: workers at a time.
        kills: how many, at least.
        write_s: seconds an undisturbed worker takes from its first row to its last; kills are
            spread over them.
        random_moments: chooses when to kill which worker.
    """
    result = KillResult(writers=writers)
    began = time.monotonic()
    while result.kills < kills:
        store = folder / f"killed-{writers}-{result.stores}.zarr"
        _disturb(command, store, result, kills, write_s, random_moments)
        code, said = Worker(command(store, "1/1")).finish()
        if code:
            raise RuntimeError(f"the last worker on {store} ended with status {code}: {said}")
        _check(open_store(store), digest, result)
        shutil.rmtree(store)
    result.seconds = round(time.monotonic() - began, 1)
    return result


def _disturb(
    command: Command,
    path: Path,
    result: KillResult,
    kills: int,
    write_s: float,
    random_moments: random.Random,
) -> None:
    """Kill and restart workers, until nothing is left to do or enough have been killed."""
    slices = [f"{number}/{result.writers}" for number in range(1, result.writers + 1)]
    workers = {share: Worker(command(path, share)) for share in slices}
    finished: dict[int, tuple[int, ...]] = {}
    while result.kills < kills:
        running = [share for share in slices if workers[share].is_running]
        chosen = random_moments.choice(running or slices)
        if random_moments.random() < AFTER_START:  # otherwise also during its start
            workers[chosen].wait_until_it_writes()
        time.sleep(random_moments.uniform(0, write_s / (1 + result.writers)))
        was_killed = workers[chosen].kill()
        result.kills += was_killed
        if (path / METADATA_FILE).exists():
            store = open_store(path)
            written = _written(store)
            result.recomputed += sum(written.get(shard) != at for shard, at in finished.items())
            result.finished_at_kills += len(written) if was_killed else 0
            finished |= written
            if len(written) == store.layout.shard_count:
                break
        workers[chosen] = Worker(command(path, chosen))
    for worker in workers.values():
        worker.finish()
    if finished:
        written = _written(open_store(path))
        result.recomputed += sum(written.get(shard) != at for shard, at in finished.items())


def _written(store: Store) -> dict[int, tuple[int, ...]]:
    """Return when the files of every complete shard were written, ledger entry first."""
    return {
        shard: tuple(
            Path(str(file)).stat().st_mtime_ns
            for file in (
                store.ledger.path(shard),
                *(store.file(spec, shard) for spec in store.arrays),
            )
        )
        for shard in store.ledger.complete()
    }


def _check(store: Store, digest: str, result: KillResult) -> None:
    result.stores += 1
    result.shards += store.layout.shard_count
    result.equal += content_digest(store, recompute=True) == digest
    result.damaged += len(verify(store).damages)
    result.left_over += len(list(Path(str(store.path)).rglob(f"*{PARTIAL_SUFFIX}")))
