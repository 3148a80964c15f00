"""Work on the rows of a shard in a few threads, in order and not far ahead.

NumPy, the compressors and SHA-256 release Python's global lock, so threads are enough.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

THREADS = min(4, len(os.sched_getaffinity(0)))  # the rest is for those who load raw data

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_parallel(work: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """Give the results of `work` in order; at most two per thread are waiting.

    Raises: what `work` raises, for the first item that fails.
    """
    ahead: deque[Future[_Result]] = deque()
    with ThreadPoolExecutor(THREADS, thread_name_prefix="rows") as pool:
        for item in items:
            ahead.append(pool.submit(work, item))
            if len(ahead) > 2 * THREADS:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
