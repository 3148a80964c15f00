"""Wall and processor time of this process and its children, in the fastest of several passes.

Processor time is what other jobs on the same cores disturb least. Linux only: reads /proc.
"""

import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
USER, SYSTEM = 11, 12  # fields of /proc/PID/stat after the name, proc(5)


@dataclass(slots=True)
class Timing:
    """Seconds of one pass, or of the fastest of several.

    Args:
        wall_s: from start to end.
        cpu_s: of all threads, and of worker processes.
    """

    wall_s: float = float("inf")
    cpu_s: float = float("inf")

    def keep_best(self, other: "Timing") -> None:
        """Take over whatever was faster in a different pass."""
        self.wall_s = min(self.wall_s, other.wall_s)
        self.cpu_s = min(self.cpu_s, other.cpu_s)


def cpu_seconds() -> float:
    """Return the processor time so far of this process and of its running children."""
    ticks = 0
    for child in multiprocessing.active_children():
        fields = Path(f"/proc/{child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[USER]) + int(fields[SYSTEM])
    return time.process_time() + ticks / TICKS_PER_S


@contextmanager
def timed(best: Timing) -> Iterator[None]:
    """Time the block; keep its time if it is faster."""
    cpu_s, started = cpu_seconds(), time.perf_counter()
    yield
    wall_s = time.perf_counter() - started
    best.keep_best(Timing(wall_s, cpu_seconds() - cpu_s))
