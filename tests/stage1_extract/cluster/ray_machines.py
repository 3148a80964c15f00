"""A Ray cluster of several machines, all of them processes of this one, and ways to kill them."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.child_processes import REPOSITORY

OBJECT_STORE_BYTES = 80 * 2**20  # the least that Ray takes is 75 MB
TITLE = "ray::RayWorker"  # what Ray calls the process of a worker, with the method it is in
PATIENCE_S = 600.0


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

    def workers(self) -> list[int]:
        """Return the process of every worker that has begun."""
        ours = {str(node.all_processes["raylet"][0].process.pid) for node in self.nodes()}
        return [
            int(stat.parent.name)
            for stat in Path("/proc").glob("[0-9]*/stat")
            if _title(stat.parent).startswith(TITLE) and _parent(stat) in ours
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
def extraction(arguments: Sequence[str]) -> Iterator["subprocess.Popen[str]"]:
    """Run `extract-features`; killed at the end if it still runs."""
    with subprocess.Popen(
        [sys.executable, "-m", "stage1_extract", *arguments],
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


class Finished:
    """Watches the shards that a ledger says are finished, from a thread of its own.

    Args:
        names: returns entries by name, with something that changes if an entry is written again.
    """

    def __init__(self, names: Any) -> None:
        self._names = names
        self.first: dict[str, object] = {}
        self.rewritten: set[str] = set()
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "Finished":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_closed.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._is_closed.wait(0.05):
            self._look()

    def _look(self) -> None:
        entries = self._names()
        for name, mark in entries.items():
            if self.first.setdefault(name, mark) != mark:
                self.rewritten.add(name)
        self.rewritten |= self.first.keys() - entries.keys()


def kill_at_random(
    those: Machines, process: "subprocess.Popen[str]", *, kills: int, losses: int, seed: int = 0
) -> tuple[int, int]:
    """Kill workers and machines of a run at random moments, while it goes on.

    A lost machine is followed by a new one. A moment is drawn once all machines have a worker, or
    sooner if some take too long.

    Returns:
        How many workers and machines were killed.
    """
    moments = random.Random(seed)
    plan = ["worker"] * kills + ["machine"] * losses
    moments.shuffle(plan)
    done = {"worker": 0, "machine": 0}
    for what in plan:
        _wait_for_workers(those, process)
        time.sleep(moments.uniform(0.0, 3.0))
        if process.poll() is not None:
            break
        if what == "machine":
            node = moments.choice(those.nodes())
            those.lose(node)
            those.add(1)
            done[what] += 1
        else:
            victims = those.workers()
            if victims:
                with suppress(ProcessLookupError):
                    os.kill(moments.choice(victims), signal.SIGKILL)
                    done[what] += 1
    return done["worker"], done["machine"]


def _wait_for_workers(those: Machines, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if len(those.workers()) >= len(those.nodes()):
            return
        time.sleep(0.2)


def _title(process: Path) -> str:
    with suppress(OSError):
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def _parent(stat: Path) -> str:
    with suppress(OSError):
        return stat.read_text().rpartition(") ")[2].split()[1]
    return ""
