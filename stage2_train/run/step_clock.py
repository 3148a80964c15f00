"""Where the time of a step goes, on a CPU or, without synchronising in between, on a GPU."""

import time
from itertools import pairwise

import torch


class StepClock:
    """Measures the time between marks.

    Args:
        device: that computes. On CUDA, marks are events on its stream.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_cuda = device.type == "cuda"
        self._names: list[str] = []
        self._times: list[float] = []
        self._events: list[torch.cuda.Event] = []

    def mark(self, name: str) -> None:
        """End the piece of work called `name`; the very first mark only starts the clock."""
        self._names.append(name)
        if self._on_cuda:
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record()
            self._events.append(event)
        else:
            self._times.append(time.perf_counter())

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each piece, summed by name; restart the clock at the last mark."""
        if self._on_cuda:
            torch.cuda.synchronize()
            spans = [start.elapsed_time(end) / 1000 for start, end in pairwise(self._events)]
        else:
            spans = [end - start for start, end in pairwise(self._times)]
        seconds = dict.fromkeys(self._names[1:], 0.0)
        for name, span in zip(self._names[1:], spans, strict=True):
            seconds[name] += span
        for marks in (self._names, self._times, self._events):
            del marks[:-1]
        return seconds
