"""Where the time of a step goes, on a CPU or, without synchronising in between, on a GPU.

And how much of the GPU's memory was needed, which the host knows without asking the GPU.
"""

import time
from dataclasses import dataclass
from itertools import pairwise

import torch

from stage2_train.run.run_files import PEAK_GPU_MB

Mark = float | torch.cuda.Event


@dataclass(frozen=True, kw_only=True, slots=True)
class Lap:
    """The marks of a step.

    Args:
        names: of the pieces of work.
        marks: the start, then the end of each piece.
        peak_gpu_mb: the most memory in tensors on the GPU at a time, so far; None on a CPU.
    """

    names: tuple[str, ...]
    marks: tuple[Mark, ...]
    peak_gpu_mb: float | None

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each piece, summed by name; a GPU must have reached the marks."""
        seconds = dict.fromkeys(self.names, 0.0)
        for name, (start, end) in zip(self.names, pairwise(self.marks), strict=True):
            seconds[name] += _between(start, end)
        return seconds

    def timing(self, samples: int) -> dict[str, float | None]:
        """Return seconds of each piece but "save", throughput of a step's samples, and memory."""
        pieces = self.seconds()
        pieces.pop("save", None)
        total = sum(pieces.values())
        return {
            "samples_per_second": samples / total,
            "share_waiting_for_data": pieces["data"] / total,
            **{f"seconds/{name}": value for name, value in pieces.items()},
            PEAK_GPU_MB: self.peak_gpu_mb,
        }


def _between(start: Mark, end: Mark) -> float:
    if isinstance(start, float) and isinstance(end, float):
        return end - start
    assert isinstance(start, torch.cuda.Event)
    assert isinstance(end, torch.cuda.Event)
    elapsed_ms: float = start.elapsed_time(end)
    return elapsed_ms / 1000


class StepClock:
    """Measures the time between marks.

    Args:
        device: that computes. On CUDA, marks are events on its stream.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._on_cuda = device, device.type == "cuda"
        self._names: list[str] = []
        self._marks: list[Mark] = []

    def mark(self, name: str) -> None:
        """End the piece of work called `name`; the very first mark only starts the clock."""
        self._names.append(name)
        if self._on_cuda:
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record()
            self._marks.append(event)
        else:
            self._marks.append(time.perf_counter())

    def lap(self) -> Lap:
        """Return what was marked since the last lap; restart the clock at the last mark."""
        # Never reset: whoever measures the peak of something else would lose it.
        peak = torch.cuda.max_memory_allocated(self._device) / 1e6 if self._on_cuda else None
        lap = Lap(names=tuple(self._names[1:]), marks=tuple(self._marks), peak_gpu_mb=peak)
        for marks in (self._names, self._marks):
            del marks[:-1]
        return lap
