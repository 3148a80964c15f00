"""A Ray cluster of several machines, all of them processes of this one, and ways to kill them."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cache.coordination.ledger import Ledger
from cache.storage.protocol import StorePath
from tests.child_processes import REPOSITORY

OBJECT_STORE_BYTES = 80 * 2**20  # the least that Ray takes is 75 MB
TITLE = "ray::RayWorker"  # what Ray calls the process of a worker, with the method it is in
LONGEST_WAIT_S = 3.0
POLL_S = 0.05
Driver = subprocess.Popen[bytes]


class Machines:
    """Nodes of a cluster, the head without cores; each holds one worker of one core.

    Args:
        cluster: of `ray.cluster_utils`.
    """

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self.address: str = cluster.address

    def add(self, cores: int) -> Any:
        """Start a machine, which has joined when this returns."""
        return self._cluster.add_node(
            num_cpus=cores, object_store_memory=OBJECT_STORE_BYTES, include_log_monitor=False
        )

    def lose(self, node: Any) -> None:
        """Kill all processes of a machine at once."""
        self._cluster.remove_node(node, allow_graceful=False)

    def workers(self, title: str = TITLE) -> list[int]:
        """Return the process of every worker, or of those in a method."""
        ours = {str(node.all_processes["raylet"][0].process.pid) for node in self.nodes()}
        return [
            int(stat.parent.name)
            for stat in Path("/proc").glob("[0-9]*/stat")
            if _title(stat.parent).startswith(title) and _parent(stat) in ours
        ]

    def nodes(self) -> list[Any]:
        return list(self._cluster.worker_nodes)


@contextmanager
def machines(cores: Sequence[int]) -> Iterator[Machines]:
    """Start a cluster of machines with so many cores each; its processes are gone at the end."""
    from ray.cluster_utils import Cluster

    before = {name: os.environ.get(name) for name in ("RAY_AUTH_MODE", "RAY_USAGE_STATS_ENABLED")}
    os.environ.update(RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED="0")
    head = {"num_cpus": 0, "object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        started = Machines(cluster)
        for count in cores:
            started.add(count)
        yield started
    finally:
        cluster.shutdown()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextmanager
def extraction(arguments: Sequence[str], log: Path) -> Iterator[Driver]:
    """Run `extract-features`; killed at the end if it still runs.

    Args:
        arguments: of the command.
        log: gets what it says.
    """
    command = [sys.executable, "-m", "stage1_extract", *arguments]
    with (
        log.open("w") as stderr,
        subprocess.Popen(command, cwd=REPOSITORY, stderr=stderr) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


class FinishedShards:
    """Notes every shard as soon as it is finished, from a thread of its own.

    Args:
        path: of the store, which need not exist yet.
    """

    def __init__(self, path: StorePath) -> None:
        self._ledger = Ledger(path)
        self._entries: dict[int, str] = {}
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "FinishedShards":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_closed.set()
        self._thread.join()

    def __len__(self) -> int:
        return len(self._entries)

    def written_again(self) -> list[int]:
        """Return the shards whose entry is not the first one any more."""
        return [i for i, entry in self._entries.items() if self._ledger.fingerprint(i) != entry]

    def _watch(self) -> None:
        while not self._is_closed.wait(0.2):
            with suppress(FileNotFoundError):  # before the store is created
                for shard in self._ledger.complete() - self._entries.keys():
                    self._entries[shard] = self._ledger.fingerprint(shard)


def kill_at_random(
    cluster: Machines,
    driver: Driver,
    finished: FinishedShards,
    *,
    workers: int,
    machines: int,
    within: int,
    seed: int = 0,
) -> Counter[str]:
    """Kill workers and machines of a run at random moments, while it goes on.

    A lost machine is followed by a new one. Moments are drawn from when a worker extracts, so that
    kills do not only hit workers that are about to start; none is `LONGEST_WAIT_S` later than that.
    They are done when so many shards are finished as `within` says, so before the work is, however
    fast it is; 0 waits for nothing but work.

    Returns:
        How many "worker"s and "machine"s were killed.
    """
    moments, killed = random.Random(seed), Counter[str]()
    plan = ["worker"] * workers + ["machine"] * machines
    moments.shuffle(plan)
    while plan and driver.poll() is None:
        _wait_for_work(cluster, driver)
        moment = time.monotonic() + moments.uniform(0.0, LONGEST_WAIT_S)
        latest = within * (killed.total() + 1) // (workers + machines)
        while time.monotonic() < moment and len(finished) < latest:
            time.sleep(POLL_S)
        victims = cluster.workers()
        if not victims or driver.poll() is not None:
            continue  # the last one has just been lost, or the work is done
        what = plan.pop()
        if what == "machine":
            cluster.lose(moments.choice(cluster.nodes()))
            cluster.add(1)
        else:
            with suppress(ProcessLookupError):
                os.kill(moments.choice(victims), signal.SIGKILL)
        killed[what] += 1
    return killed


def _wait_for_work(cluster: Machines, driver: Driver) -> None:
    """Wait until a worker is extracting."""
    while driver.poll() is None and not cluster.workers(f"{TITLE}.extract"):
        time.sleep(0.1)


def _title(process: Path) -> str:
    with suppress(OSError):
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def _parent(stat: Path) -> str:
    with suppress(OSError):
        return stat.read_text().rpartition(") ")[2].split()[1]
    return ""
