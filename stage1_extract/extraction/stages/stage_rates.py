"""How many samples per second each stage of an extraction could do, and which one limits it."""

import threading
from collections.abc import Mapping
from typing import Literal

Stage = Literal["loading", "computing", "writing"]
STAGES: tuple[Stage, ...] = ("loading", "computing", "writing")


class StageRates:
    """Adds up the time that samples spend in each stage; threads may add side by side.

    A stage that works on several samples at once could do so many times as much. Stages that share
    cores slow each other down, so on a machine without a GPU the rates are those of the busy
    machine.

    Args:
        widths: how many samples are in a stage at once.
    """

    def __init__(self, widths: Mapping[Stage, int]) -> None:
        self._widths = widths
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._samples = dict.fromkeys(STAGES, 0.0)
        self._lock = threading.Lock()

    def add(self, stage: Stage, seconds: float, samples: float = 1) -> None:
        """Count samples that a stage has done; 0 where more of their time is added.

        A row that is a sensor of a sample counts as its share of the sample.
        """
        with self._lock:
            self._seconds[stage] += seconds
            self._samples[stage] += samples

    def totals(self) -> dict[Stage, tuple[float, float]]:
        """Return seconds and samples of every stage, as `add` takes them."""
        with self._lock:
            return {stage: (self._seconds[stage], self._samples[stage]) for stage in STAGES}

    def per_second(self) -> dict[Stage, float]:
        """Return samples per second, of the stages that have done any."""
        with self._lock:
            return {
                stage: self._widths[stage] * samples / max(self._seconds[stage], 1e-9)
                for stage, samples in self._samples.items()
                if samples
            }

    def __str__(self) -> str:
        rates = self.per_second()
        if len(rates) < len(STAGES):
            return ""
        slowest = min(rates, key=lambda stage: rates[stage])
        listed = ", ".join(f"{stage} {rate:.3g}/s" for stage, rate in rates.items())
        return f"{listed}; {slowest} is the limit"
