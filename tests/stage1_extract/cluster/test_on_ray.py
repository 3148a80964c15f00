"""Extraction with Ray itself: two machines, all their processes on this one."""

import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from cache.coordination.store import open_store
from cache.inspection.content_digest import content_digest
from cache.storage.location import parse_store_path
from cache.verification.verify_store import verify
from stage1_extract.__main__ import main as extract_features
from tests.conftest import new_bucket
from tests.stage1_extract.cluster.ray_machines import (
    FinishedShards,
    Machines,
    extraction,
    kill_at_random,
    machines,
)

pytest.importorskip("ray", reason="Ray is not installed: pip install 'frozen-cmt[ray]'")

PATIENCE_S = 3600
WORKERS_KILLED, MACHINES_KILLED = 20, 2
CAMPAIGN_VARIANTS = 60  # of three samples, with a shard for each
KILLS_WITHIN = 150  # of these 180 shards
SIGNAL_VARIANTS = 12
Arguments = Callable[[object, int], list[str]]


@pytest.fixture(autouse=True)
def _a_thread_per_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU torch's results depend on its threads, and a worker here has one core."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def arguments(synthetic_root: Path) -> Arguments:
    """Options of an extraction, by store and variants."""
    where = ["--nuscenes", str(synthetic_root), "--version", "v1.0-mini", "--split", "mini_train"]

    def of(store: object, variants: int) -> list[str]:
        size = ["--variants", str(variants), "--shard-mib", "1"]
        return ["tiny", *where, "--store", str(store), *size]

    return of


@contextmanager
def threads_of_torch(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def on(cluster: Machines) -> list[str]:
    return ["--ray", cluster.address, "--cpus-per-worker", "1"]


def plain_digest(arguments: list[str], store: Path) -> str:
    """Extract in a process of its own, as a rule with a single plain worker."""
    with extraction(arguments, store.with_suffix(".log")) as process:
        assert process.wait(PATIENCE_S) == 0, store.with_suffix(".log").read_text()
    return content_digest(open_store(store))


@pytest.fixture
def two_machines() -> Iterator[Machines]:
    with machines([1, 1]) as cluster:
        yield cluster


def test_a_run_continues_a_plain_one_and_a_killed_worker_costs_its_shards(
    two_machines: Machines, arguments: Arguments, tiny_store: Path, tmp_path: Path
) -> None:
    plain, log = shutil.copytree(tiny_store, tmp_path / "plain.zarr"), tmp_path / "log"
    store = parse_store_path(str(shutil.copytree(tiny_store, tmp_path / "ray.zarr")))
    begun = open_store(store).ledger.complete()
    with threads_of_torch(1):
        assert extract_features(arguments(plain, 4)) == 0
    with (
        extraction([*arguments(store, 4), *on(two_machines)], log) as driver,
        FinishedShards(store) as finished,
    ):
        killed = kill_at_random(two_machines, driver, finished, workers=1, machines=0, within=0)
        assert driver.wait(PATIENCE_S) == 0, log.read_text()
    assert killed == {"worker": 1}, log.read_text()
    assert "lost the worker" in log.read_text()
    assert "is complete" in log.read_text()
    assert content_digest(open_store(store)) == content_digest(open_store(plain))
    assert len(finished) > len(begun)
    assert not finished.written_again()


@pytest.mark.gpu
def test_on_a_gpu_a_run_with_ray_writes_what_a_plain_run_writes(
    arguments: Arguments, tmp_path: Path
) -> None:
    plain, store = tmp_path / "plain.zarr", tmp_path / "ray.zarr"
    batches = ["--batch-size", "2"]
    expected = plain_digest([*arguments(plain, 2), *batches], plain)
    assert plain_digest([*arguments(store, 2), *batches, "--ray"], store) == expected
    assert "and 1 GPUs" in store.with_suffix(".log").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_that_started_ray_and_the_next_one_continues(
    arguments: Arguments, tmp_path: Path, signum: signal.Signals
) -> None:
    store, log = tmp_path / "ray.zarr", tmp_path / "log"
    command = [*arguments(store, SIGNAL_VARIANTS), "--ray", "--cpus-per-worker", "1"]
    with (
        extraction(command, log) as driver,
        FinishedShards(parse_store_path(str(store))) as finished,
    ):
        deadline = time.monotonic() + 300
        while len(finished) < 3 and time.monotonic() < deadline:
            time.sleep(0.1)
        driver.send_signal(signum)
        sent = time.monotonic()
        assert driver.wait(60) == 128 + signum, log.read_text()
    assert time.monotonic() - sent < 30
    assert "shards were finished and are kept" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert not list(store.glob("ledger/*.claim"))
    expected = plain_digest(
        arguments(tmp_path / "plain.zarr", SIGNAL_VARIANTS), tmp_path / "plain.zarr"
    )
    assert plain_digest(arguments(store, SIGNAL_VARIANTS), store) == expected
    assert not finished.written_again()


@pytest.fixture(scope="module")
def campaign_digest(synthetic_root: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Content digest of a store that takes two workers minutes, from a single one."""
    store = tmp_path_factory.mktemp("campaign") / "plain.zarr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        where = ["--nuscenes", str(synthetic_root), "--version", "v1.0-mini"]
        size = ["--split", "mini_train", "--variants", str(CAMPAIGN_VARIANTS), "--shard-mib", "1"]
        return plain_digest(["tiny", *where, "--store", str(store), *size], store)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["directory", "object storage"])
def test_workers_killed_twenty_times_and_machines_twice_leave_the_store_of_one_worker(
    place: str,
    campaign_digest: str,
    arguments: Arguments,
    s3_server: tuple[str, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = tmp_path / "ray.zarr"
    if place == "object storage":
        url = f"{new_bucket(s3_server, monkeypatch)}/some/ray.zarr"  # type: ignore[assignment]
    store, log = parse_store_path(str(url)), tmp_path / "log"
    with (
        machines([1, 1]) as cluster,
        extraction([*arguments(store, CAMPAIGN_VARIANTS), *on(cluster)], log) as driver,
        FinishedShards(store) as finished,
    ):
        killed = kill_at_random(
            cluster,
            driver,
            finished,
            workers=WORKERS_KILLED,
            machines=MACHINES_KILLED,
            within=KILLS_WITHIN,
        )
        assert driver.wait(PATIENCE_S) == 0, log.read_text()
    assert killed == {"worker": WORKERS_KILLED, "machine": MACHINES_KILLED}, log.read_text()
    opened = open_store(store)
    assert content_digest(opened) == campaign_digest
    assert not verify(opened).damages
    assert not finished.written_again()
    assert not [name for name in (store / "ledger").names() if "claim" in name]
