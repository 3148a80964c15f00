"""The workers of a run: as many as the cluster can hold, while machines come and go."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from shared.errors import FrozenCmtError
from stage1_extract.cluster.ray_options import RayOptions
from stage1_extract.cluster.ray_session import machines_of
from stage1_extract.cluster.ray_worker import SHARDS_AT_A_TIME, RayWorker, StartedWorker
from stage1_extract.cluster.worker_room import WorkerNeeds, loading_tasks, worker_count
from stage1_extract.extraction.extraction_job import ExtractionJob
from stage1_extract.extraction.stages.stage_rates import Stage

log = logging.getLogger(__name__)

LOOK_S = 2.0  # how often machines are counted


@dataclass(eq=False)
class CrewMember:
    """A worker, from when it is asked for until it dies.

    Args:
        name: unique in this run.
        actor: Ray's handle.
        loading: tasks that load for it.
        started: what it says of itself; None until it is ready.
        shards: in work, by the reference of their call.
        bad_shards: that failed at it in a row, for the first time.
    """

    name: str
    actor: Any
    loading: int
    started: StartedWorker | None = None
    shards: dict[Any, int] = field(default_factory=dict)
    bad_shards: int = 0

    @property
    def place(self) -> str:
        """Where it runs, for people."""
        return "not placed yet" if self.started is None else self.started.place


@dataclass(frozen=True, slots=True)
class CallEnd:
    """The end of a call of a worker.

    Args:
        member: whose call.
        shard: that it extracted; None if it started.
        result: what it returned; None if it did not.
        error: what it raised.
        is_dead: whether the worker is gone.
    """

    member: CrewMember
    shard: int | None
    result: Any
    error: BaseException | None
    is_dead: bool


class WorkerCrew:
    """Starts workers, calls them, and notices how their calls end.

    The first one creates the store; the others start when it exists.

    Args:
        ray: the module.
        job: sent to every worker.
        frames: reference to the `RawFrames`.
        needs: reserved for every worker.
        options: of the command line.
    """

    def __init__(
        self, ray: Any, job: ExtractionJob, frames: Any, needs: WorkerNeeds, options: RayOptions
    ) -> None:
        self._ray, self._job, self._frames = ray, job, frames
        self._needs, self._options = needs, options
        self._class = ray.remote(RayWorker)
        self._calls: dict[Any, CrewMember] = {}
        self._looked = -LOOK_S  # when they were counted
        self._room = self._asked = 0
        self.members: list[CrewMember] = []
        self._retired = 0
        self.is_store_open = False

    def grow(self, most: int) -> None:
        """Ask for workers, if there are fewer than machines can hold.

        Args:
            most: no more than these are of use.
        """
        now = time.monotonic()
        if now - self._looked < LOOK_S:
            return
        self._looked = now
        machines = machines_of(self._ray)
        self._room = count = worker_count(self._needs, self._options, machines)
        wanted = min(count - self._retired, most) if self.is_store_open else 1
        while len(self.members) < wanted:
            self._ask(loading_tasks(self._needs, self._options, machines, count))

    def _ask(self, loading: int) -> None:
        self._asked += 1
        actor = self._class.options(
            name=f"extract-{self._asked}",  # in Ray's dashboard
            num_cpus=self._needs.cores,
            num_gpus=self._needs.gpus,
            max_concurrency=SHARDS_AT_A_TIME + 1,  # and one that stops it
            max_restarts=0,  # wherever there is room, not where it was
        ).remote()
        member = CrewMember(f"extract-{self._asked}", actor, loading)
        self.members.append(member)
        call = actor.start.remote(
            self._job,
            [self._frames],
            cores=self._needs.cores,
            loading=loading,
            is_first=not self.is_store_open,
        )
        self._calls[call] = member

    def hand(self, member: CrewMember, shard: int) -> None:
        """Give a worker a shard."""
        call = member.actor.extract.remote(shard)
        member.shards[call], self._calls[call] = shard, member

    def ends(self, wait_s: float) -> Iterator[CallEnd]:
        """Yield the calls that have ended, after waiting for the first of them."""
        calls = list(self._calls)
        if not calls:
            time.sleep(wait_s)
            return
        ended, _ = self._ray.wait(calls, num_returns=1, timeout=wait_s)
        if ended:
            ended, _ = self._ray.wait(calls, num_returns=len(calls), timeout=0)
        for call in ended:
            if call in self._calls:  # else its worker was dismissed meanwhile
                yield self._end(call)

    def _end(self, call: Any) -> CallEnd:
        member = self._calls.pop(call)
        shard = member.shards.pop(call, None)
        try:
            result = self._ray.get(call)
        except self._ray.exceptions.RayTaskError as error:
            return CallEnd(member, shard, None, self._plain(error), is_dead=False)
        except self._ray.exceptions.RayError as error:
            return CallEnd(member, shard, None, error, is_dead=True)
        return CallEnd(member, shard, result, None, is_dead=False)

    def _plain(self, error: BaseException) -> BaseException:
        """Return what was raised, in whatever task; our own errors without Ray's traceback."""
        cause = error
        while isinstance(cause, self._ray.exceptions.RayTaskError):
            cause = cause.cause
        return cause if isinstance(cause, FrozenCmtError | OSError) else error

    def dismiss(self, member: CrewMember, *, is_replaced: bool) -> list[int]:
        """End a worker, dead or alive.

        Returns:
            The shards that it had.
        """
        self._ray.kill(member.actor)
        self.members.remove(member)
        self._calls = {call: its for call, its in self._calls.items() if its is not member}
        self._retired += not is_replaced
        return list(member.shards.values())

    def is_spent(self) -> bool:
        """Return whether there is no worker, and none is to come."""
        return not self.members and self._retired >= self._room

    def widths(self) -> dict[Stage, int]:
        """Return how many samples are in each stage at once."""
        ready = [member.started for member in self.members if member.started is not None]
        return {
            "loading": sum(max(1, member.loading) for member in self.members if member.started),
            "computing": len(ready),
            "writing": sum(started.writers for started in ready),
        }

    def stop(self, patience_s: float, ended: Callable[[CallEnd], None]) -> None:
        """Let workers finish what is computed, but no longer than that.

        Args:
            patience_s: for all of them.
            ended: told of every call that ends.
        """
        deadline = time.monotonic() + patience_s
        for member in self.members:
            member.actor.stop.remote()
        while any(member.shards for member in self.members) and time.monotonic() < deadline:
            for end in self.ends(0.2):
                ended(end)

    def require_unchanged(self) -> None:
        """Make sure that no worker's backbones have changed.

        Raises:
            FrozenError: if any has.
        """
        calls = [m.actor.require_unchanged.remote() for m in self.members if m.started is not None]
        for call in calls:
            try:
                self._ray.get(call)
            except self._ray.exceptions.RayTaskError as error:
                raise self._plain(error) from None
            except self._ray.exceptions.RayError:
                continue  # died after its last shard, as it may at any time
