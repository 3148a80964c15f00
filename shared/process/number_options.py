"""Numbers on a command line, refused with their range before any work begins.

argparse names the option: "argument --batch-size: -1 is not a whole number of at least 1".
"""

import argparse
import math
from collections.abc import Callable


def whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return a reader of whole numbers from `least` to `most`, for argparse's `type`."""
    wanted = f"a whole number {_range(least, most)}"

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}") from None
        if number < least or (most is not None and number > most):
            raise argparse.ArgumentTypeError(f"{text} is not {wanted}")
        return number

    return read


def real_number(least: float, most: float | None = None) -> Callable[[str], float]:
    """Return a reader of finite numbers from `least` to `most`, for argparse's `type`."""
    wanted = f"a number {_range(least, most)}"

    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}") from None
        if not least <= number <= (math.inf if most is None else most) or math.isinf(number):
            raise argparse.ArgumentTypeError(f"{text} is not {wanted}")
        return number

    return read


def share(text: str) -> float:
    """Read a part of a whole, above 0 and at most 1; for argparse's `type`."""
    number = real_number(0, 1)(text)
    if not number:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 to 1 without 0 itself")
    return number


def _range(least: float, most: float | None) -> str:
    return f"of at least {least:g}" if most is None else f"from {least:g} to {most:g}"
