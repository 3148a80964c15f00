"""Numbers on a command line, refused with their range before any work begins.

argparse names the option: "argument --batch-size: -1 is not a whole number of at least 1".
"""

import argparse
import math
from collections.abc import Callable
from typing import TypeVar

Number = TypeVar("Number", int, float)


def whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return a reader of whole numbers from `least` to `most`, for argparse's `type`."""
    return _reader(int, "a whole number", least, most)


def real_number(least: float, most: float | None = None) -> Callable[[str], float]:
    """Return a reader of finite numbers from `least` to `most`, for argparse's `type`."""
    return _reader(float, "a number", least, most)


def share(text: str) -> float:
    """Read a part of a whole, above 0 and at most 1; for argparse's `type`."""
    number = real_number(0, 1)(text)
    if not number:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 to 1 without 0 itself")
    return number


def _reader(
    kind: Callable[[str], Number], noun: str, least: float, most: float | None
) -> Callable[[str], Number]:
    limits = f"of at least {least:g}" if most is None else f"from {least:g} to {most:g}"

    def read(text: str) -> Number:
        try:
            number = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not {noun} {limits}") from None
        if not least <= number <= (math.inf if most is None else most) or number == math.inf:
            raise argparse.ArgumentTypeError(f"{text} is not {noun} {limits}")
        return number

    return read
