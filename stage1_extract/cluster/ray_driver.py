"""Fills a store with the workers of a Ray cluster: hands out shards, watches, and reports.

The driver computes and writes nothing. Its hand-out stands for the claims that workers on their own
take, so that object storage, which has none, is filled by any number of workers as well.
"""

import logging
import time
from typing import Any

from cache.coordination.claims import Claims, WorkerSlice, shards_to_hand_out
from cache.extend import refuse_more_variants
from cache.writer import StoreWriter
from shared.errors import CacheError, FrozenCmtError, InterruptedWorkError
from shared.process.interrupts import PATIENCE_S, Interrupts
from stage1_extract.cluster.hand_out import HandOut
from stage1_extract.cluster.ray_options import RayOptions
from stage1_extract.cluster.ray_session import DashboardMeters, machines_of, ray_session
from stage1_extract.cluster.ray_worker import SHARDS_AT_A_TIME, StoppedShardError
from stage1_extract.cluster.worker_crew import CallEnd, CrewMember, WorkerCrew
from stage1_extract.cluster.worker_room import require_loading_cores, worker_needs
from stage1_extract.extraction.extraction_job import ExtractionJob
from stage1_extract.extraction.forecast import Forecast
from stage1_extract.extraction.stages.stage_rates import Stage, StageRates
from stage1_extract.preprocessing.raw_frames import RawFrames

log = logging.getLogger(__name__)

POLL_S = 0.2  # how soon a signal or a new machine is noticed
MOST_STARTS = 5  # that end in the death of the worker, one after the other
MOST_BAD_SHARDS = 10  # that fail in a row at a worker, each for the first time: it is dismissed
NAMED_SHARDS = 5  # in a message


def extract_on_ray(job: ExtractionJob, frames: RawFrames, options: RayOptions) -> int:
    """Fill a store on a cluster.

    Args:
        job: the extraction.
        frames: all samples of the store.
        options: which cluster, and how it is used.

    Returns:
        How many shards are left, because workers outside the cluster have claimed them.

    Raises:
        FrozenCmtError: if no worker can work, or if shards failed; finished shards are kept.
        InterruptedWorkError: on Ctrl-C or SIGTERM.
    """
    with ray_session(options.address) as ray, Interrupts() as interrupts:
        machines = machines_of(ray)
        needs = worker_needs(options, machines)
        require_loading_cores(needs, options, machines)
        log.info("a worker takes %s", needs)
        crew = WorkerCrew(ray, job, ray.put(frames), needs, options)
        open_with_first_worker(crew, interrupts)
        writer = StoreWriter(job.store)
        refuse_more_variants(job.store, writer.store.layout.variants, job.variants)
        driver = RayDriver(writer, crew, DashboardMeters(ray))
        driver.run(interrupts)
        crew.require_unchanged()
        driver.require_all()
        return len(driver.writer.pending())


def open_with_first_worker(crew: WorkerCrew, interrupts: Interrupts) -> None:
    """Wait until a worker has built its backbones and opened the store.

    Raises:
        FrozenCmtError: if it cannot.
        InterruptedWorkError: on Ctrl-C or SIGTERM.
    """
    starts, told = 0, time.monotonic()
    while not crew.is_store_open:
        crew.grow(1)
        if interrupts.signum is not None:
            raise InterruptedWorkError("nothing was begun", interrupts.signum)
        if time.monotonic() - told > 60:
            told = time.monotonic()
            log.info("still waiting for the first worker: is there a machine with room for it?")
        for end in crew.ends(POLL_S):
            starts += 1
            if end.error is None:
                end.member.started = end.result
                crew.is_store_open = True
                log.info("%s", end.result.about)
            elif not end.is_dead or starts == MOST_STARTS:
                raise explained_end(end.error)
            else:
                crew.dismiss(end.member, is_replaced=True)


def explained_end(error: BaseException) -> BaseException:
    """Return an error that a user can cause as it is; explain one of Ray's."""
    if isinstance(error, FrozenCmtError | OSError):
        return error
    return CacheError(
        f"a worker cannot start: {error}. The same command without --ray, on a machine of the "
        "cluster, shows whether it is Ray"
    )


class RayDriver:
    """Hands out shards until there are none left.

    Args:
        writer: of the store, for looking only.
        crew: the workers.
        meters: told of every finished shard.
    """

    def __init__(self, writer: StoreWriter, crew: WorkerCrew, meters: DashboardMeters) -> None:
        self.writer, self._store, self._crew = writer, writer.store, crew
        self._meters = meters
        self._claims = Claims(self._store)
        self._work = HandOut(shards_to_hand_out(self._store, self._claims))
        self._widths: dict[Stage, int] = crew.widths()
        self._rates = StageRates(self._widths)
        self._forecast = Forecast(self._store, WorkerSlice(), self._rates)
        self._finished = 0
        self._planned = len(writer.pending())
        self._dead_starts = 0  # in a row

    def run(self, interrupts: Interrupts) -> None:
        """Hand out and watch.

        Raises:
            FrozenCmtError: if all workers fail.
            InterruptedWorkError: on Ctrl-C or SIGTERM.
        """
        with self._forecast.bar:
            try:
                while self._hand_out():
                    for end in self._crew.ends(POLL_S):
                        self._take(end)
                    self._look_ahead()
                    self._stop_if_asked(interrupts)
            finally:
                self._claims.release_all()
        log.info("samples/s that each stage could do: %s", self._rates)

    def _hand_out(self) -> bool:
        """Give every worker that has room a shard; return False when all work is over."""
        for member in self._crew.members:
            while member.started is not None and len(member.shards) < SHARDS_AT_A_TIME:
                shard = self._work.next(member.name)
                if shard is None:
                    break
                self._crew.hand(member, shard)
        self._crew.grow(max(1, self._planned - self._finished))
        return not self._work.is_over()

    def _look_ahead(self) -> None:
        """Forecast once every worker is at work: the first shard says little about all of them."""
        if self._finished >= SHARDS_AT_A_TIME * len(self._crew.members):
            self._forecast.written(self._finished)

    def _take(self, end: CallEnd) -> None:
        """Take note of how a call ended."""
        if end.is_dead:
            self._lose(end)
        elif end.shard is None:
            self._start(end)
        elif end.error is None:
            self._finish(end.member, end.shard, end.result)
        elif isinstance(end.error, StoppedShardError):
            self._work.lost(end.shard)
        else:
            self._fail(end.member, end.shard, end.error)

    def _start(self, end: CallEnd) -> None:
        if end.error is None:
            end.member.started, self._dead_starts = end.result, 0
            self._widths.update(self._crew.widths())
            log.info("%d workers; new at %s", self._widths["computing"], end.member.place)
            return
        self._crew.dismiss(end.member, is_replaced=False)
        log.warning("a worker cannot start, the others go on: %s", end.error)
        self._require_workers(end.error)

    def _finish(self, member: CrewMember, shard: int, totals: Any) -> None:
        member.bad_shards = 0
        self._finished += 1
        self._work.finished(shard)
        self._claims.release(shard)
        for stage, (seconds, samples) in totals.items():
            self._rates.add(stage, seconds, samples)
        rows = self._store.rows_in(frozenset({shard}))
        self._forecast.computed(rows)
        self._meters.show(rows, self._rates)

    def _fail(self, member: CrewMember, shard: int, error: BaseException) -> None:
        if self._work.failed(shard, member.name, str(error)):
            member.bad_shards += 1
        log.warning("shard %d failed at %s: %s", shard, member.place, error)
        if member.bad_shards == MOST_BAD_SHARDS:
            log.warning("%s is dismissed: %d shards in a row", member.place, MOST_BAD_SHARDS)
            for left in self._crew.dismiss(member, is_replaced=False):
                self._work.lost(left)
            self._require_workers(error)

    def _lose(self, end: CallEnd) -> None:
        """Hand out again what a dead worker has not written."""
        self._dead_starts += end.shard is None
        lost = self._crew.dismiss(end.member, is_replaced=True)
        self._widths.update(self._crew.widths())
        lost += [] if end.shard is None else [end.shard]
        log.warning("lost the worker at %s, and its shards %s", end.member.place, sorted(lost))
        for shard in lost:
            if self._store.ledger.path(shard).exists():
                self._finished += 1
                self._work.finished(shard)
                self._claims.release(shard)
            else:
                self._work.lost(shard)
        self._require_workers(end.error)

    def _require_workers(self, error: BaseException | None) -> None:
        works = any(member.started for member in self._crew.members)
        if self._crew.is_spent() or (self._dead_starts >= MOST_STARTS and not works):
            raise CacheError(
                f"no worker can go on; {self._finished} shards were finished and are kept. The "
                f"last one said: {error}"
            )

    def _stop_if_asked(self, interrupts: Interrupts) -> None:
        if interrupts.signum is None:
            return
        self._crew.stop(PATIENCE_S, self._take)
        left = len(self.writer.pending())
        if left:
            raise InterruptedWorkError(
                f"{self._finished} shards were finished and are kept, {left} of "
                f"{len(self.writer.shards)} are left; run the same command again to continue",
                interrupts.signum,
            )

    def require_all(self) -> None:
        """Make sure that no shard was given up.

        Raises:
            CacheError: naming those that were.
        """
        failed = sorted(self._work.given_up)
        if failed:
            named = "; ".join(f"shard {i}: {self._work.given_up[i]}" for i in failed[:NAMED_SHARDS])
            raise CacheError(
                f"{len(failed)} of {len(self.writer.shards)} shards of {self._store.path} failed "
                f"again and again: {', '.join(map(str, failed))}. No other failed. {named}"
                f"{'; ...' if len(failed) > NAMED_SHARDS else ''}. Run the same command again when "
                "this is resolved"
            )
