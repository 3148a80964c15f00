"""The shared memory that loader processes hand their samples over in, and whether there is enough.

torch moves every tensor that leaves a process into memory of `shm_open`, with each of its sharing
strategies; on Linux that is /dev/shm. A container has 64 MB of it. Writing beyond kills the process
with SIGBUS, so it must be known before.
"""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from shared.errors import ConfigError

log = logging.getLogger(__name__)

SHM = Path("/dev/shm")


def affordable_workers(
    named: int | None, default: int, shared_bytes: Callable[[int], int], processes: int = 1
) -> int:
    """Return how many loader processes to start.

    Args:
        named: by the user with --workers; None if not.
        default: to start without --workers, or as many of them as there is shared memory for.
        shared_bytes: the shared memory that a number of loaders needs; 0 of them need nothing.
        processes: on this machine that start so many loaders each.

    Raises:
        ConfigError: if there is too little shared memory for what the user named.
    """
    wanted = default if named is None else named
    if not SHM.is_dir():  # not Linux: the system limits nothing that we could ask for
        return wanted
    free = shutil.disk_usage(SHM).free // processes
    needed = shared_bytes(wanted)
    if needed <= free:
        return wanted
    fitting = next(n for n in range(wanted, -1, -1) if shared_bytes(n) <= free)
    need = (
        f"{wanted} loader processes need up to {needed} bytes of shared memory, and {SHM} has "
        f"{free} bytes free"
        f"{f' for each of {processes} processes' if processes > 1 else ''}"
    )
    larger = f"a larger {SHM} (docker run --shm-size {-(-needed * processes // 2**30)}g)"
    if named is None:
        log.warning("%s: starting %d. %s allows more", need, fitting, larger)
        return fitting
    smaller = f"--workers {fitting}, which fits, or " if fitting else ""
    raise ConfigError(
        f"--workers {named}: {need}. Use {smaller}--workers 0, which needs none, or {larger}"
    )
