"""Python's garbage collector, paused while objects come to stay."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collection() -> Iterator[None]:
    """Pause the collector in this block, which makes hundreds of thousands of objects to be kept.

    It looks at them again and again as their number grows, for longer than making them takes.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
