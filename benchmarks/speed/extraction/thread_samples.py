"""Where the thread is that queues work for the device, looked at many times a second."""

import sys
import threading
import time
from collections import Counter
from types import CodeType, FrameType
from typing import Any

from stage1_extract.extraction.stages.device_pass import DevicePass
from stage1_extract.extraction.stages.raw_loader import RawLoader
from stage1_extract.extraction.stages.shard_writers import ShardWriters

QUEUES = "queues"
ELSE = "else"
LOOK_S = 0.004
BUSIEST = 6  # functions that are named


def _code(function: Any) -> CodeType:
    code: CodeType = getattr(function, "__wrapped__", function).__code__
    return code


PLACES = {
    _code(DevicePass.__call__): QUEUES,
    _code(RawLoader.batches): "waits for loaders",
    _code(ShardWriters.reserve): "waits for writers",
    _code(ShardWriters.submit): "hands over",
}


class ThreadSamples:
    """Looks at the thread that makes it until `end`.

    It takes Python's lock for some 20 µs each time. Where a thread waits for a core, the lock or
    the GPU while it queues, it counts as queueing: the processor time tells how much it worked.
    """

    def __init__(self) -> None:
        self._watched, self._ended = threading.get_ident(), threading.Event()
        self._places: Counter[str] = Counter()
        self._queueing: Counter[str] = Counter()  # by innermost function
        self._started, self._cpu_s = time.monotonic(), time.thread_time()
        self._thread = threading.Thread(target=self._look, name="thread-samples", daemon=True)
        self._thread.start()

    def end(self, forwards: int) -> dict[str, Any]:
        """Return what was noticed; called by the thread that is watched.

        Args:
            forwards: batches that it has queued meanwhile.

        Returns:
            `thread_shares` of the time, by place; `queueing_ms` of a batch, by the clock;
            `thread_cpu_ms` of the thread for a batch; `busiest`, the functions in which it was most
            often while queueing, with their shares of that time.
        """
        seconds, cpu_s = time.monotonic() - self._started, time.thread_time() - self._cpu_s
        self._ended.set()
        self._thread.join()
        looks = max(1, self._places.total())
        shares = {place: count / looks for place, count in self._places.most_common()}
        queueing = max(1, self._queueing.total())
        return {
            "thread_shares": shares,
            "queueing_ms": 1e3 * shares.get(QUEUES, 0.0) * seconds / max(1, forwards),
            "thread_cpu_ms": 1e3 * cpu_s / max(1, forwards),
            "busiest": {
                name: count / queueing for name, count in self._queueing.most_common(BUSIEST)
            },
        }

    def _look(self) -> None:
        while not self._ended.wait(LOOK_S):
            frame = sys._current_frames().get(self._watched)
            if frame is not None:
                place = _place(frame)
                self._places[place] += 1
                if place == QUEUES:
                    self._queueing[f"{frame.f_globals['__name__']}.{frame.f_code.co_name}"] += 1


def _place(frame: FrameType) -> str:
    outer: FrameType | None = frame
    while outer is not None:
        if outer.f_code in PLACES:
            return PLACES[outer.f_code]
        outer = outer.f_back
    return ELSE
