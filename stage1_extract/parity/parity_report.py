"""What a comparison found: the worst of every difference, beside noise and tolerance."""

import dataclasses
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stage1_extract.parity.parity_tolerances import Difference, Measure


@dataclass(frozen=True, kw_only=True, slots=True)
class ParityRow:
    """One comparison.

    Args:
        quantity: what was compared.
        batch_size: samples per batch of the live side.
        difference: the largest difference.
        noise: the largest difference of the live side from itself; None where none was measured.
        allowed: the tolerance.
        unit: of these numbers.
    """

    quantity: str
    batch_size: int
    difference: float
    noise: float | None
    allowed: float
    unit: str

    @property
    def passed(self) -> bool:
        """Whether the difference is within tolerance; NaN is not."""
        return self.difference <= self.allowed

    @property
    def margin(self) -> float | None:
        """The difference as a share of what is allowed; None if it is not finite."""
        share = self.difference / self.allowed if self.allowed else self.difference
        return share if math.isfinite(share) else None

    def document(self) -> dict[str, Any]:
        """Return the row as JSON."""
        return {**dataclasses.asdict(self), "passed": self.passed}


class ParityReport:
    """Collects the worst difference of every quantity; a NaN is the worst, and stays.

    Args:
        exact_at: batch sizes at which the store must hold the rounded live values bit for bit.
    """

    def __init__(self, exact_at: Collection[int] = ()) -> None:
        self._exact_at = exact_at
        self._measures: dict[tuple[int, str], Measure] = {}
        self._worst: dict[tuple[int, str], float] = {}
        self._noise: dict[str, float] = {}

    def add(self, batch_size: int, differences: Iterable[Difference]) -> None:
        """Note how the store differs from the live side."""
        for item in differences:
            key = batch_size, item.quantity
            self._measures[key] = item.measure
            self._worst[key] = _worse(self._worst.get(key), item.value)

    def add_noise(self, batch_size: int, differences: Iterable[Difference]) -> None:
        """Note how the live side differs from itself.

        Args:
            batch_size: at which it was computed; other batch sizes differ from this one.
            differences: of the same quantities.
        """
        for item in differences:
            key = item.measure.pool or item.quantity
            self._noise[key] = _worse(self._noise.get(key), item.value)
            if item.measure.most_noise < math.inf:
                limit = Measure(unit=item.measure.unit, factor=0.0, floor=item.measure.most_noise)
                itself = f"{item.quantity}, live against live"
                self.add(batch_size, [Difference(quantity=itself, measure=limit, value=item.value)])

    def rows(self) -> list[ParityRow]:
        """Return a row per quantity and batch size, in order of first appearance."""
        rows = []
        for (batch_size, quantity), measure in self._measures.items():
            noise = self._noise.get(measure.pool or quantity)
            is_exact = measure.is_bits and batch_size in self._exact_at
            rows.append(
                ParityRow(
                    quantity=quantity,
                    batch_size=batch_size,
                    difference=self._worst[batch_size, quantity],
                    noise=noise,
                    allowed=0.0 if is_exact else measure.allowed(noise or 0.0),
                    unit=measure.unit,
                )
            )
        return rows


def _worse(before: float | None, value: float) -> float:
    """Return the larger number, or NaN if one is; Python's `max` may lose a NaN."""
    return float(np.maximum(-math.inf if before is None else before, value))


def rows_as_text(rows: Sequence[ParityRow]) -> str:
    """Return a comparison as aligned text."""
    lines = [f"{'quantity':<44} {'batch':>5} {'difference':>12} {'noise':>9} {'allowed':>9}  unit"]
    for row in rows:
        noise = "-" if row.noise is None else f"{row.noise:.3g}"
        mark = "" if row.passed else "  <-- outside"
        lines.append(
            f"{row.quantity:<44} {row.batch_size:>5} {row.difference:>12.3g} {noise:>9} "
            f"{row.allowed:>9.3g}  {row.unit}{mark}"
        )
    return "\n".join(lines)


def worst_margins(rows: Sequence[ParityRow]) -> dict[str, float | None]:
    """Return the margin of every quantity, the worst of all batch sizes; None is the worst."""
    worst: dict[str, float] = {}
    for row in rows:
        margin = math.nan if row.margin is None else row.margin
        worst[row.quantity] = _worse(worst.get(row.quantity), margin)
    return {name: value if math.isfinite(value) else None for name, value in worst.items()}
