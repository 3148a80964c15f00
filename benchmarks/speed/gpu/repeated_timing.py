"""How long a piece of work takes on the device, and the memory it needs."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

WARM_UP = 3
RUNS = 10
CPU_RUNS = 2


def repeated_ms(work: Callable[[], Any]) -> float:
    """Return the median milliseconds of several runs, each from an idle device."""
    if not torch.cuda.is_available():
        work()
        return median(_cpu_ms(work) for _ in range(CPU_RUNS))
    for _ in range(WARM_UP):
        work()
    spans = []
    for _ in range(RUNS):
        torch.cuda.synchronize()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        torch.cuda.synchronize()
        spans.append(start.elapsed_time(end))
    return median(spans)


def peak_mb(work: Callable[[], Any]) -> float | None:
    """Return the device memory that a run needs beyond what is held now; None on a CPU."""
    if not torch.cuda.is_available():
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 1e6


def _cpu_ms(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return 1000.0 * (time.perf_counter() - started)
