"""Curves of several runs as one inline SVG: no library, no script, no font of its own."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 760, 300
LEFT, RIGHT, TOP, BOTTOM = 62, 12, 12, 40
MOST_POINTS = 300  # of a curve; more are averaged
LOG_ABOVE = 20.0  # ratio of largest to smallest value from which a logarithmic axis shows more
TICKS = 6

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """What one run measured.

    Args:
        run: its name.
        style: SVG attributes of the line.
        steps, values: (n,) each; values that are not finite are left out.
    """

    run: str
    style: str
    steps: Values
    values: Values


def curve_chart(curves: Sequence[Curve], label: str) -> str:
    """Return an SVG with a line per curve; "" if nothing was measured.

    Args:
        curves: of one quantity.
        label: of the quantity.
    """
    drawn = [(curve, *_averaged(curve)) for curve in curves]
    drawn = [entry for entry in drawn if entry[1].size]
    if not drawn:
        return ""
    steps = np.concatenate([entry[1] for entry in drawn])
    values = np.concatenate([entry[2] for entry in drawn])
    is_log = bool(values.min() > 0 and values.max() / values.min() > LOG_ABOVE)
    x_axis = _Axis(float(min(steps.min(), 0)), float(steps.max()), LEFT, WIDTH - RIGHT, False)
    y_axis = _Axis(float(values.min()), float(values.max()), HEIGHT - BOTTOM, TOP, is_log)
    lines = "\n".join(
        f'<polyline data-run="{html.escape(curve.run)}" {curve.style} points="'
        + " ".join(f"{x_axis.at(x):.1f},{y_axis.at(y):.1f}" for x, y in zip(xs, ys, strict=True))
        + f'"><title>{html.escape(curve.run)}</title></polyline>'
        for curve, xs, ys in drawn
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(label)} by step">'
        f"{_grid(x_axis, y_axis)}\n{lines}\n"
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">step</text>'
        "</svg>"
    )


def _averaged(curve: Curve) -> tuple[Values, Values]:
    """Return finite points, neighbours averaged so that there are not too many."""
    is_finite = np.isfinite(curve.values) & np.isfinite(curve.steps)
    steps, values = curve.steps[is_finite], curve.values[is_finite]
    pieces = np.array_split(np.arange(len(steps)), min(len(steps), MOST_POINTS) or 1)
    pieces = [piece for piece in pieces if piece.size]
    return (
        np.array([steps[piece].mean() for piece in pieces]),
        np.array([values[piece].mean() for piece in pieces]),
    )


class _Axis:
    """Values to places in the picture.

    Args:
        low, high: values.
        start, end: their places.
        is_log: whether equal distances are equal ratios.
    """

    def __init__(self, low: float, high: float, start: float, end: float, is_log: bool) -> None:
        if low == high:
            low, high = low - 0.5 * abs(low or 1), high + 0.5 * abs(high or 1)
        self.low, self.high, self.start, self.end, self.is_log = low, high, start, end, is_log

    def at(self, value: float) -> float:
        low, high = self.low, self.high
        if self.is_log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Return round values on the axis."""
        if self.is_log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            every = [digit * 10.0**decade for decade in decades for digit in (1, 2, 5)]
            return [value for value in every if self.low <= value <= self.high]
        rough = (self.high - self.low) / TICKS
        size = 10.0 ** math.floor(math.log10(rough))
        step = next(size * digit for digit in (1, 2, 5, 10) if size * digit >= rough)
        first = math.ceil(self.low / step)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def _grid(x_axis: _Axis, y_axis: _Axis) -> str:
    """Return lines and numbers of both axes."""
    parts = []
    for value in y_axis.ticks():
        y = y_axis.at(value)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
        )
    for value in x_axis.ticks():
        x = x_axis.at(value)
        parts.append(
            f'<line class="grid" y1="{TOP}" y2="{HEIGHT - BOTTOM}" x1="{x:.1f}" x2="{x:.1f}"/>'
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{value:g}</text>'
        )
    return "".join(parts)
