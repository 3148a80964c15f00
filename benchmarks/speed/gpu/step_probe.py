"""Watches a training run from outside: when steps begin, what they wait for, what they launch.

A step begins where the detector's forward begins. A run has five stretches of steps:

    warm-up | from the loader | change | the same batches from memory | profiled

The probe synchronises with the device only between them.
"""

import itertools
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from benchmarks.speed.gpu.cases import Row
from benchmarks.speed.gpu.kernel_times import kernel_times
from shared.data.batch import Batch
from shared.process.device import available_device

CHANGE = 3  # steps until batches read ahead are used up: one is on the device, one on its way
KEPT = 3  # batches that are repeated


@dataclass(frozen=True, kw_only=True, slots=True)
class Stretches:
    """How many steps each stretch takes; the profiled one is left out on a CPU."""

    warm_up: int = 6
    measured: int = 16
    profiled: int = 2


class StepProbe:
    """Measures one run.

    Args:
        stretches: of it.
    """

    def __init__(self, stretches: Stretches) -> None:
        self.stretches = stretches
        self.device = available_device()
        self.begun = 0
        self.times: dict[int, float] = {}  # when the step of this number began, device idle
        self.blocked_s = 0.0
        self.autocast: str | None = None
        self._forwards: list[tuple[Any, Any]] = []
        self._handles: list[Any] = []
        self._profile: profile | None = None

    @property
    def steps(self) -> int:
        """Steps that the run has to take."""
        return self._profiled[1] + 1

    @property
    def without_loading(self) -> slice:
        """The measured steps whose batches come from memory."""
        start = self._loaded[1] + CHANGE
        return slice(start, start + self.stretches.measured)

    @property
    def _loaded(self) -> tuple[int, int]:
        start = self.stretches.warm_up
        return start, start + self.stretches.measured

    @property
    def _profiled(self) -> tuple[int, int]:
        start = self.without_loading.stop
        return start, start + self.stretches.profiled

    def watch(self, detector: nn.Module) -> None:
        """Observe the forward passes of the detector."""
        self._handles = [
            detector.register_forward_pre_hook(self._begin),
            detector.register_forward_hook(self._end),
        ]

    def close(self) -> None:
        """Stop observing."""
        for handle in self._handles:
            handle.remove()

    def feed(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield batches of a loader, timing it; later repeat the last few of them."""
        stream, recent = iter(batches), deque[Batch](maxlen=KEPT)
        while self.begun < self._loaded[1]:
            started = time.perf_counter()
            batch = next(stream)
            if self.begun >= self._loaded[0]:
                self.blocked_s += time.perf_counter() - started
            recent.append(batch)
            yield batch
        yield from itertools.cycle(list(recent))

    def result(self, batch_size: int) -> Row:
        """Return what was measured, seconds of a step."""
        per_step = {
            name: (self.times[end] - self.times[start]) / (end - start)
            for name, (start, end) in {
                "loader": self._loaded,
                "memory": (self.without_loading.start, self.without_loading.stop),
            }.items()
        }
        loaded_s, step_s = per_step["loader"], per_step["memory"]
        row: Row = {
            "step_s": step_s,
            "step_from_loader_s": loaded_s,
            "samples_per_s": batch_size / loaded_s,
            "waiting_share": max(0.0, 1.0 - step_s / loaded_s),
            "blocked_in_loader_s": self.blocked_s / self.stretches.measured,
            "first_step_s": self.times[1] - self.times[0],
            "autocast": self.autocast,
        }
        if self.device.type == "cuda":
            row["peak_mb"] = torch.cuda.max_memory_allocated() / 1e6
        if self._profile is not None:
            row |= kernel_times(self._profile, self.stretches.profiled)
        return row

    def detector_s(self) -> float | None:
        """Return the mean seconds of the detector's forward in the steps without loading."""
        spans = self._forwards[self.without_loading]
        if not spans:
            return None
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            return sum(start.elapsed_time(end) for start, end in spans) / 1000 / len(spans)
        return sum(end - start for start, end in spans) / len(spans)

    def _begin(self, *_: Any) -> None:
        step, self.begun = self.begun, self.begun + 1
        is_border = step in {0, 1, *self._loaded, *self._profiled, self.without_loading.start}
        if is_border:
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            self.times[step] = time.perf_counter()
        if step == self._loaded[0]:
            kind = self.device.type
            is_on = torch.is_autocast_enabled(kind)
            self.autocast = str(torch.get_autocast_dtype(kind)) if is_on else None
            if kind == "cuda":
                torch.cuda.reset_peak_memory_stats()
        if self.device.type == "cuda" and self.stretches.profiled:
            if step == self._profiled[0]:
                self._profile = profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA])
                self._profile.start()
            elif step == self._profiled[1] and self._profile is not None:
                self._profile.stop()
        self._forwards.append((self._now(), None))

    def _end(self, *_: Any) -> None:
        start, _none = self._forwards[-1]
        self._forwards[-1] = (start, self._now())

    def _now(self) -> Any:
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
