"""The driver with actors that are threads: what fails, dies, joins or is interrupted costs little.

`test_on_ray.py` runs the same with Ray.
"""

import logging
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

import stage1_extract.cluster.ray_driver as driver_module
import stage1_extract.cluster.worker_crew as crew_module
from cache.coordination.claims import Claims
from cache.coordination.store import open_store
from cache.inspection.content_digest import content_digest
from cache.reader import CachedFeatures
from cache.storage.location import parse_store_path
from cache.writer import StoreWriter
from shared.errors import CacheError, DatasetError, FrozenError, IdentityError, InterruptedWorkError
from stage1_extract.cluster.hand_out import MOST_FAILURES
from stage1_extract.cluster.ray_driver import MOST_BAD_SHARDS, extract_on_ray
from stage1_extract.cluster.ray_options import RayOptions
from stage1_extract.cluster.ray_worker import StartedWorker, StoppedShardError
from stage1_extract.extraction.stages.stage_rates import STAGES
from tests.cache.conftest import fill, make_features, make_writer
from tests.stage1_extract.cluster.threads_as_ray import Actor, Meter, ThreadsAsRay

VARIANTS = 4  # of five samples, a row per shard
SHARDS = 5 * VARIANTS
Before = Callable[[int], None]


class Run:
    """A run into a store of the small preset, and what its workers do.

    Args:
        store: a path or an URL.
        machines: one core each, hence one worker each.
    """

    def __init__(self, store: Any, machines: int = 2) -> None:
        make_writer(store, rows_per_shard=1, variants=VARIANTS)
        self.store = store
        self.computed: Counter[int] = Counter()
        self.at_start: Callable[[bool], None] = lambda is_first: None
        self.before: Before = lambda shard: None  # computing it
        self.after: Before = lambda shard: None  # it is written
        self.is_stopped = threading.Event()
        self.at_end: Callable[[], None] = lambda: None
        self.ray = ThreadsAsRay(lambda: Worker(self), [{"CPU": 1.0}] * machines)

    def go(self, *, workers: int | None = None, loading: int | None = None) -> int:
        options = RayOptions(address="auto", gpus=None, cores=1, workers=workers, loading=loading)
        job: Any = type("Job", (), {"store": self.store, "variants": VARIANTS})()
        return extract_on_ray(job, None, options)  # type: ignore[arg-type]

    def kill(self, index: int) -> None:
        """Kill the actor of a worker."""
        self.ray.actors[index].kill()


class Worker:
    """Stands in for `RayWorker`: writes the rows that the cache tests write."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def start(self, job: Any, _: Any, *, is_first: bool, **__: Any) -> StartedWorker:
        self._run.at_start(is_first)
        self._writer = StoreWriter(job.store)
        return StartedWorker(place="here", writers=1, about="small on cpu")

    def extract(self, index: int) -> dict[str, tuple[float, int]]:
        self._run.before(index)
        if self._run.is_stopped.is_set():
            raise StoppedShardError(f"shard {index} was dropped")
        self._run.computed[index] += 1
        shard = self._writer.store.shard(index)
        rows = [make_features(token, variant=shard.variant) for token in shard.tokens]
        self._writer.write_shard(shard, rows)
        self._run.after(index)
        return dict.fromkeys(("loading", "computing", "writing"), (0.5, len(rows)))

    def stop(self) -> None:
        self._run.is_stopped.set()

    def require_unchanged(self) -> None:
        self._run.at_end()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    return prepared(Run(tmp_path / "store"), monkeypatch)


def prepared(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(run.ray, "put", lambda frames: frames, raising=False)
    monkeypatch.setattr(driver_module, "ray_session", lambda _: nullcontext(run.ray))
    monkeypatch.setattr(crew_module, "LOOK_S", 0.0)
    monkeypatch.setattr(driver_module, "POLL_S", 0.02)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    return run


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Content digest of the store as a single worker writes it."""
    place = tmp_path_factory.mktemp("expected") / "store"
    writer = make_writer(place, rows_per_shard=1, variants=VARIANTS)
    fill(writer)
    return content_digest(writer.store)


def once(action: Callable[[], None]) -> Callable[[], None]:
    """Return a function that does something the first time it is called."""
    lock, calls = threading.Lock(), iter([action])

    def act() -> None:
        with lock:
            first = next(calls, None)
        if first is not None:
            first()

    return act


def test_two_workers_fill_the_store_as_one_does(run: Run, expected: str) -> None:
    firsts: list[bool] = []
    run.at_start = firsts.append
    together = threading.Barrier(2)  # two shards are in work at a time

    def wait(shard: int) -> None:
        if shard < 2:
            together.wait(30)

    run.before = wait
    assert run.go() == 0
    assert content_digest(open_store(run.store)) == expected
    assert run.computed == dict.fromkeys(range(SHARDS), 1)
    assert firsts[0]
    assert not any(firsts[1:])  # the others find the store
    assert not list(run.store.glob("ledger/*.claim"))


def test_a_run_goes_on_where_a_plain_one_stopped_and_the_other_way(run: Run, expected: str) -> None:
    fill(StoreWriter(run.store), shards=7)
    run.before = lambda shard: run.is_stopped.set() if shard == 12 else None
    run.after = lambda shard: os.kill(os.getpid(), signal.SIGINT) if shard == 9 else None
    with pytest.raises(InterruptedWorkError):
        run.go()
    assert set(run.computed) <= set(range(7, SHARDS))
    fill(StoreWriter(run.store))
    assert content_digest(open_store(run.store)) == expected


def test_a_shard_that_fails_three_times_is_named_and_the_rest_goes_on(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    tries: Counter[int] = Counter()

    def damaged(shard: int) -> None:
        tries[shard] += 1
        if shard in (3, 8):
            raise DatasetError(f"image {shard}.jpg cannot be read")

    run.before = damaged
    with pytest.raises(
        CacheError, match=r"2 of 20 shards .* failed.*: 3, 8\..*shard 3: image 3\.jpg.*8\.jpg"
    ):
        run.go()
    assert [tries[3], tries[8]] == [MOST_FAILURES] * 2
    assert sorted(run.computed) == sorted(set(range(SHARDS)) - {3, 8})
    assert "shard 3 failed at here: image 3.jpg cannot be read" in caplog.text
    run.before = lambda shard: None
    run.go()
    assert CachedFeatures(run.store).is_complete()


def test_a_shard_that_fails_once_is_tried_again(run: Run, expected: str) -> None:
    def fail() -> None:
        raise DatasetError("stale file handle")

    fail_once = once(fail)
    run.before = lambda shard: fail_once() if shard == 5 else None
    assert run.go() == 0
    assert content_digest(open_store(run.store)) == expected


def test_a_dead_worker_costs_its_shards_and_none_that_was_written(
    run: Run, expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    kill = once(lambda: run.kill(0))  # after the entry is written, before the driver is told
    run.after = lambda shard: kill() if shard == 6 else None
    assert run.go() == 0
    assert content_digest(open_store(run.store)) == expected
    assert run.computed[6] == 1
    assert "lost the worker at here" in caplog.text
    assert not list(run.store.glob("ledger/*.claim"))


def test_workers_that_die_as_they_start_are_replaced(run: Run, expected: str) -> None:
    def die() -> None:
        next(actor for actor in run.ray.actors if not actor.is_dead).kill()

    dies = once(die)
    run.at_start = lambda _: dies()
    assert run.go() == 0
    assert content_digest(open_store(run.store)) == expected
    assert len(run.ray.actors) >= 2


def test_if_no_worker_ever_starts_the_run_ends(run: Run) -> None:
    run.at_start = lambda _: run.ray.actors[-1].kill()
    with pytest.raises(CacheError, match="a worker cannot start: the actor died"):
        run.go()


def test_if_all_workers_die_the_last_shards_are_still_known_to_be_written(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        run = prepared(Run(tmp_path / "store", machines=1), patch)
        kill = once(lambda: run.kill(0))
        run.after = lambda _: kill() if len(run.computed) == SHARDS else None
        assert run.go() == 0


def test_what_the_first_worker_refuses_ends_the_run(run: Run) -> None:
    def refuse(_: bool) -> None:
        raise IdentityError("the store was made from something else")

    run.at_start = refuse
    with pytest.raises(IdentityError, match=r"^the store was made from something else$"):
        run.go()
    assert not run.computed


def test_another_worker_that_cannot_start_leaves_the_work_to_the_rest(
    run: Run, expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(is_first: bool) -> None:
        if not is_first:
            raise IdentityError("float32 in the store, float16 asked for")

    run.at_start = refuse
    assert run.go() == 0
    assert content_digest(open_store(run.store)) == expected
    assert "a worker cannot start, the others go on: float32 in the store" in caplog.text
    assert len(run.ray.actors) == 2  # it is not tried again and again


def test_a_worker_at_which_everything_fails_is_dismissed(
    run: Run, expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its machine lacks a mount, say: it would fail faster than the others work."""
    bad: list[Any] = []

    class Blind(Worker):
        def extract(self, index: int) -> Any:
            if not bad:
                bad.append(self)
            if self is bad[0]:
                raise DatasetError("no such folder")
            return super().extract(index)

    run.ray._make = lambda: Blind(run)
    run.before = lambda shard: threading.Event().wait(0.02)
    assert run.go() == 0
    assert content_digest(open_store(run.store)) == expected
    assert f"is dismissed: {MOST_BAD_SHARDS} shards in a row" in caplog.text


def test_if_everything_fails_everywhere_the_run_ends(run: Run) -> None:
    def fail(_: int) -> None:
        raise CacheError("the disk is full")

    run.before = fail
    with pytest.raises(CacheError, match=r"no worker can go on; 0 shards were.*the disk is full"):
        run.go()


def test_machines_that_join_get_workers(run: Run) -> None:
    joined = threading.Event()

    def join(shard: int) -> None:
        if shard == 4:
            run.ray.machines.append({"CPU": 1.0})
        if shard > 4:
            assert joined.wait(30)

    run.before = join
    run.at_start = lambda _: joined.set() if len(run.ray.actors) == 3 else None
    assert run.go() == 0
    assert len(run.ray.actors) == 3


def test_a_worker_is_replaced_though_the_machine_that_loaded_for_it_has_left(
    run: Run, expected: str
) -> None:
    run.ray.machines.append({"CPU": 1.0})

    def leave() -> None:
        run.ray.machines.pop()
        run.kill(0)

    leaves = once(leave)
    run.before = lambda shard: leaves() if shard == 6 else None
    assert run.go(workers=2, loading=1) == 0
    assert content_digest(open_store(run.store)) == expected


def test_no_more_workers_are_asked_for_than_there_are_shards_left(run: Run) -> None:
    fill(StoreWriter(run.store), shards=SHARDS - 1)
    run.ray.machines += [{"CPU": 1.0}] * 10
    assert run.go() == 0
    assert len(run.ray.actors) == 1


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_what_is_computed_and_says_how_to_continue(
    run: Run, signum: signal.Signals
) -> None:
    def interrupt(shard: int) -> None:
        if shard == 10:
            os.kill(os.getpid(), signum)
        if shard > 10:
            assert run.is_stopped.wait(30)  # these are computed until they are told to stop

    run.before = interrupt
    with pytest.raises(InterruptedWorkError, match="run the same command again") as stopped:
        run.go()
    assert stopped.value.signum == signum
    left = {shard.index for shard in StoreWriter(run.store).pending()}
    assert f"{SHARDS - len(left)} shards were finished" in str(stopped.value)
    assert left == set(range(SHARDS)) - set(run.computed)
    assert not list(run.store.glob("ledger/*.claim"))


def test_backbones_that_changed_are_reported_at_the_end(run: Run) -> None:
    def changed() -> None:
        raise FrozenError("img_backbone changed while extracting")

    run.at_end = changed
    with pytest.raises(FrozenError, match=r"^img_backbone changed"):
        run.go()


def test_shards_that_a_plain_worker_has_claimed_are_left_to_it(run: Run) -> None:
    claims = Claims(open_store(run.store))
    assert claims.take(2)
    assert run.go() == 1
    assert 2 not in run.computed
    claims.release_all()
    assert run.go() == 0


def test_rates_and_the_limiting_stage_are_reported(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    Meter.values.clear()
    with caplog.at_level(logging.INFO):
        run.go()
    assert "20 of 20 rows to extract in 20 shards" in caplog.text
    assert "MB per row" in caplog.text
    last = caplog.records[-1].getMessage()
    assert last.startswith("samples/s that each stage could do: loading ")
    assert "is the limit" in last
    assert Meter.values["frozen_cmt_rows"] == {"": SHARDS}
    assert set(Meter.values["frozen_cmt_samples_per_second"]) == set(STAGES)


def test_on_object_storage_nothing_is_claimed_and_a_dead_worker_s_shards_are_handed_out(
    s3: str, expected: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    place = parse_store_path(f"{s3}/some/train.zarr")
    run = prepared(Run(place), monkeypatch)
    kill = once(lambda: run.kill(0))
    run.before = lambda shard: kill() if shard == 6 else None
    assert run.go() == 0
    assert content_digest(open_store(place)) == expected
    assert "only extracts its own slice" not in caplog.text
    names = set((place / "ledger").names())
    assert names == {f"{shard:06d}.json" for shard in range(SHARDS)} | {"zarr.json"}


def test_variants_that_another_command_adds_meanwhile_are_not_handed_out(run: Run) -> None:
    run.at_start = lambda is_first: make_writer(run.store, variants=5) and None
    with pytest.raises(IdentityError, match="has 5 variants, but 4 were asked for"):
        run.go()
    assert not run.computed


def test_an_actor_s_calls_fail_once_it_is_killed() -> None:
    """The stand-in behaves as Ray does; else the tests above show nothing."""
    begun, release = threading.Event(), threading.Event()

    class Slow:
        def work(self) -> int:
            begun.set()
            release.wait(30)
            return 1

    actor = Actor(Slow(), 1)
    call = actor.work.remote()
    begun.wait(30)
    actor.kill()
    release.set()
    with pytest.raises(Exception, match="the actor died"):
        call.result(30)
    with pytest.raises(Exception, match="the actor is dead"):
        actor.work.remote().result(30)
