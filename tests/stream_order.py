"""The order that CUDA's streams, events and waits of the host promise, and what breaks it.

By vector clocks: a stream knows how far it has followed the others, and the host how far it has
waited for each. A fault is

- a stream, or the host, that reads what a different stream has written, or overwrites what one
  reads, without a promise that the earlier use is over;
- memory of the device that is freed while a stream which does not own it, and which
  `record_stream` was not told of, may still use it: the allocator gives it to its owner at once.
  Page-locked memory may be freed at any time, its allocator knows what copies read and write it.
"""

import threading
from dataclasses import dataclass, field


class Timeline:
    """A stream, or the host: work in its order.

    Args:
        name: for messages.
    """

    def __init__(self, name: str) -> None:
        self.name, self.now = name, 0
        self.knows: dict[Timeline, int] = {}

    def snapshot(self) -> dict["Timeline", int]:
        """Return how far everything is that comes before the next work here."""
        return {**self.knows, self: self.now}

    def learn(self, snapshot: dict["Timeline", int]) -> None:
        """Let what comes next here be after this."""
        for timeline, time in snapshot.items():
            self.knows[timeline] = max(time, self.knows.get(timeline, 0))

    def is_after(self, timeline: "Timeline", time: int) -> bool:
        """Return whether what comes next here is after that work."""
        return timeline is self or self.knows.get(timeline, 0) >= time

    def wait_stream(self, stream: "Timeline") -> None:
        """As of `torch.cuda.Stream`."""
        self.learn(stream.snapshot())


@dataclass(eq=False)
class Memory:
    """Of a tensor and its views; times of the last use by each timeline."""

    owner: Timeline
    is_pinned: bool
    tensors: int = 0
    written: dict[Timeline, int] = field(default_factory=dict)
    read: dict[Timeline, int] = field(default_factory=dict)
    recorded: set[Timeline] = field(default_factory=set)


class StreamOrder:
    """Watches the uses of memory, by its address; `faults` are what went wrong."""

    def __init__(self) -> None:
        self.host, self.default = Timeline("the host"), Timeline("the default stream")
        self.current, self.streams = self.default, 0
        self.faults: list[str] = []
        self.ran: dict[str, set[str]] = {}  # operations by timeline
        self.memory: dict[int, Memory] = {}
        self._lock = threading.RLock()  # a tensor may end in the middle of something here

    def new_stream(self) -> Timeline:
        """Return one more stream."""
        self.streams += 1
        return Timeline(f"stream {self.streams}")

    def hold(self, address: int, *, is_pinned: bool) -> None:
        """Count a tensor; memory that is not known belongs to the current stream, or the host."""
        with self._lock:
            if address not in self.memory:
                owner = self.host if is_pinned else self.current
                self.memory[address] = Memory(owner, is_pinned)
            self.memory[address].tensors += 1

    def use(self, address: int, where: Timeline, name: str, *, writes: bool) -> None:
        """Let a timeline read or write memory."""
        memory = self.memory.get(address)
        if memory is None:  # a constant that was made, and is kept, from before this began to watch
            return
        where.learn(self.host.snapshot())  # the host queues it after what it has waited for
        where.now += 1
        self.ran.setdefault(where.name, set()).add(name)
        before = {**memory.written, **memory.read} if writes else memory.written
        for timeline, time in before.items():
            if not where.is_after(timeline, time):
                self.faults.append(f"{name} in {where.name} does not wait for {timeline.name}")
        (memory.written if writes else memory.read)[where] = where.now

    def release(self, address: int) -> None:
        """Count a tensor less; the last one frees the memory."""
        with self._lock:
            memory = self.memory[address]
            memory.tensors -= 1
            if memory.tensors:
                return
            del self.memory[address]
        for timeline, time in {**memory.written, **memory.read}.items():
            is_over = memory.owner.is_after(timeline, time) or timeline in memory.recorded
            if not (is_over or memory.is_pinned):
                self.faults.append(
                    f"memory of {memory.owner.name} is freed while {timeline.name} uses it"
                )
