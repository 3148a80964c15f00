"""The cores of this machine, and how many of them a process may count on."""

import os
from collections.abc import Mapping

from shared.errors import ConfigError

LOCAL_PROCESSES = "LOCAL_WORLD_SIZE"  # torchrun's


def available_cores() -> int:
    """Return the number of cores that this process may use, which a job's limits can lower."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def local_processes(otherwise: int = 1, environment: Mapping[str, str] = os.environ) -> int:
    """Return how many processes share this machine's cores: as torchrun says, else as named here.

    Slurm binds each of its processes to cores of its own, which `available_cores` knows.

    Raises:
        ConfigError: if torchrun's variable is not a number of at least 1.
    """
    text = environment.get(LOCAL_PROCESSES, str(otherwise))
    if not text.isdecimal() or not int(text):
        raise ConfigError(
            f"{LOCAL_PROCESSES} is {text!r}; expected the number of processes on this machine, as "
            "torchrun sets it. Correct or unset it"
        )
    return int(text)


def core_share(processes: int = 1) -> int:
    """Return this process's part of the cores, at least 1.

    Args:
        processes: of this run on this machine, unless torchrun says how many there are.
    """
    return max(1, available_cores() // local_processes(processes))
