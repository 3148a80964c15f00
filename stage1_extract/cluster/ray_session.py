"""Ray while a command runs: started or joined, and left at the end."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from shared.errors import ConfigError
from stage1_extract.cluster.ray_options import THIS_MACHINE
from stage1_extract.cluster.worker_room import Machine
from stage1_extract.extraction.stages.stage_rates import StageRates

log = logging.getLogger(__name__)

REACH_S = 10.0


@contextmanager
def ray_session(address: str) -> Iterator[Any]:
    """Join a cluster, or start Ray on this machine; yields the module `ray`.

    Args:
        address: as Ray takes it.

    Raises:
        ConfigError: if no cluster is at the address.
    """
    # Ray would report on every cluster it starts to its makers.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    import ray.util.metrics

    try:
        _reach(address)
        ray.init(address=address, logging_level=logging.WARNING)
    except (OSError, ValueError, RuntimeError) as error:
        where = "on this machine" if address == THIS_MACHINE else f"at {address}"
        raise ConfigError(
            f"--ray: no cluster {where} ({str(error).strip()}). Start one with `ray start --head`, "
            "name another ADDRESS, or leave ADDRESS out to start Ray on this machine"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Try a host and port: Ray itself would for minutes.

    Raises:
        OSError: if nothing answers.
        ValueError: if it is no host and port.
    """
    host, _, port = address.rpartition(":")
    if host:  # else a word of Ray's
        socket.create_connection((host.strip("[]"), int(port)), REACH_S).close()


class DashboardMeters:
    """Shows progress among the metrics of Ray's dashboard.

    Args:
        ray: the module.
    """

    def __init__(self, ray: Any) -> None:
        metrics = ray.util.metrics
        self._rows = metrics.Counter("frozen_cmt_rows", "rows of the store, as they are finished")
        self._rates = metrics.Gauge(
            "frozen_cmt_samples_per_second", "that a stage could do", tag_keys=("stage",)
        )

    def show(self, rows: int, rates: StageRates) -> None:
        """Count finished rows, and show what each stage could do."""
        self._rows.inc(rows)
        for stage, rate in rates.per_second().items():
            self._rates.set(rate, tags={"stage": stage})


def machines_of(ray: Any) -> list[Machine]:
    """Return what the machines have that are in the cluster now."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]
