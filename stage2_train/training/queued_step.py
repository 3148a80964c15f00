"""A step that is queued, and its numbers, which the host reads when they have arrived.

Reading a number of a step that the GPU has not finished makes the host wait, and the GPU then waits
for the host's next step. So all numbers of a step travel in one copy, and are read one step later.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from shared.data.batch import Batch
from shared.errors import TrainingError
from shared.process.device import HostCopy
from stage2_train.run.sensor_weights_log import mean_sensor_weights

GRAD_NORM = "grad_norm"
AQR_SCALE = "aqr/scale"


@dataclass(frozen=True, kw_only=True, slots=True)
class StepResult:
    """The outcome of a step.

    Args:
        loss: total.
        scalars: losses, learning rates and gradient norms, for the log.
        was_skipped: whether something overflowed in float16, so that nothing was updated.
    """

    loss: float
    scalars: dict[str, float]
    was_skipped: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class StepNumbers:
    """What a step computes for its result, on the device.

    Args:
        terms: names of the loss terms, T.
        sums: names of the sums of `sensor_weight_sums`, S.
        of_passes: (passes, T + S) terms and sums of this process.
        others: gradient norms, the total one first, and AQR's scale, if there is one, each ().
    """

    terms: tuple[str, ...]
    sums: tuple[str, ...]
    of_passes: Tensor
    others: dict[str, Tensor]

    @classmethod
    def of(
        cls,
        passes: Sequence[tuple[Mapping[str, Tensor], Mapping[str, Tensor]]],
        others: dict[str, Tensor],
    ) -> "StepNumbers":
        """Collect the terms and sums of every pass."""
        terms, sums = passes[0]
        rows = [torch.stack([*(terms | sums).values()]) for terms, sums in passes]  # type: ignore[operator]
        return cls(
            terms=tuple(terms),
            sums=tuple(sums),
            of_passes=torch.stack(rows).detach().float(),
            others=others,
        )


class QueuedStep:
    """A step whose work is queued.

    Args:
        step: counted from 0.
        batches: of this process.
        numbers: of this process.
        summed: (T + S,) terms and sums over passes and processes.
        rates: learning rates, for the log.
        was_skipped: (), 1 if the gradient scaler skipped the update; None without a scaler.
    """

    def __init__(
        self,
        *,
        step: int,
        batches: Sequence[Batch],
        numbers: StepNumbers,
        summed: Tensor,
        rates: Mapping[str, float],
        was_skipped: Tensor | None,
    ) -> None:
        self.step = step
        self.tokens = [batch.tokens for batch in batches]
        self.was_skipped = was_skipped
        self._numbers, self._rates = numbers, rates
        skipped = [] if was_skipped is None else [was_skipped]
        scalars = torch.stack([*numbers.others.values(), *skipped]).float()
        self._copy = HostCopy(torch.cat([numbers.of_passes.flatten(), summed, scalars]))

    def read(self) -> StepResult:
        """Wait for the numbers; a GPU that already computes the next step goes on meanwhile.

        Raises:
            TrainingError: if a loss or a gradient is not finite, and was not skipped.
        """
        values: list[float] = self._copy.wait().tolist()
        numbers = self._numbers
        names = (*numbers.terms, *numbers.sums)
        rows = [
            dict(zip(names, values[start : start + len(names)], strict=True))
            for start in range(0, (len(self.tokens) + 1) * len(names), len(names))
        ]  # of every pass, then summed
        rest = values[len(rows) * len(names) :]
        others = dict(zip(numbers.others, rest, strict=False))
        was_skipped = self.was_skipped is not None and rest[-1] > 0
        if not was_skipped:
            self._require_finite(rows)
        if self.was_skipped is None and not math.isfinite(others[GRAD_NORM]):
            raise diverged(self.step, self.tokens, "a gradient is not finite")
        terms = {name: rows[-1][name] for name in numbers.terms}
        loss = sum(terms.values())
        aqr = mean_sensor_weights(rows[-1]) if numbers.sums else {}
        scale = {name: others.pop(name) for name in (AQR_SCALE,) if name in others}
        scalars = {"loss": loss, **others, **self._rates, **terms, **aqr, **scale}
        return StepResult(loss=loss, scalars=scalars, was_skipped=was_skipped)

    def _require_finite(self, rows: Sequence[Mapping[str, float]]) -> None:
        every = tuple(token for tokens in self.tokens for token in tokens)
        for tokens, row in zip([*self.tokens, every], rows, strict=True):
            bad = [name for name, value in row.items() if not math.isfinite(value)]
            if bad:
                raise diverged(self.step, [tokens], f"{', '.join(bad)} is not finite")


def diverged(step: int, tokens: Sequence[Sequence[str]], reason: str) -> TrainingError:
    """Return the error of a step whose loss cannot be used; `tokens` are those of every pass."""
    named = ", ".join(token for of_pass in tokens for token in of_pass)
    return TrainingError(
        f"step {step}, samples {named}: {reason}. The run's last checkpoint was saved before; "
        "lower the learning rate, or check the store with `feature-cache verify`"
    )
