"""Tensors of a GPU that is not there, their memory, and events; for `tests.fake_gpu`.

Numbers are computed at once, on the CPU. A GPU's tensor is a subclass, which every operation on it
returns.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from tests.stream_order import StreamOrder, Timeline

CUDA = torch.device("cuda", 0)
WAITS = {"nonzero", "item", "tolist", "cpu", "__bool__", "unique"}  # of the host for a GPU
WRITES = {"copy_", "__setitem__", "zero_", "fill_", "sub_", "add_", "mul_", "clamp_", "relu_"}
OF_TWO_DEVICES = {"copy_", "_has_compatible_shallow_copy_type"}
HOST_RESULTS = {"cpu", "numpy", "item", "tolist"}


class Modelled(Tensor):
    """A tensor whose uses are watched."""

    gpu: "FakeGpu"

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return cls.gpu.run(func, args, kwargs or {})


class GpuTensor(Modelled):
    """Of the device."""

    is_cuda = True
    device = CUDA

    def record_stream(self, stream: Timeline) -> None:
        self.gpu.memory[address_of(self)].recorded.add(stream)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        copied = memo[id(self)] = self.detach().clone().requires_grad_(self.requires_grad)
        return copied

    def __reduce_ex__(self, protocol: Any) -> Any:
        with torch._C.DisableTorchFunctionSubclass():  # what is loaded again is on the host
            return self.as_subclass(Tensor).__reduce_ex__(protocol)


class PinnedTensor(Modelled):
    """Of page-locked memory."""

    def is_pinned(self) -> bool:
        return True


class Lease:
    """Holds a tensor's memory; a weak reference to the tensor would keep modules from moving it."""

    def __init__(self, gpu: "FakeGpu", address: int) -> None:
        self._gpu, self._address = gpu, address

    def __del__(self) -> None:
        self._gpu.release(self._address)


class FakeGpu(StreamOrder):
    """The device."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []  # of the host
        self.mixed: set[str] = set()  # operations that torch would refuse: operands of two devices
        Modelled.gpu = self

    def new(self, values: Tensor, kind: type[Modelled]) -> Modelled:
        """Return the values as a tensor of a kind."""
        tensor, address = values.as_subclass(kind), address_of(values)
        self.hold(address, is_pinned=kind is PinnedTensor)
        tensor.lease = Lease(self, address)  # type: ignore[attr-defined]
        return tensor

    def run(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Run an operation where it would run."""
        name = getattr(func, "__name__", str(func))
        arguments = list(_flat((*args, *kwargs.values())))
        values = [value for value in arguments if isinstance(value, Modelled)]
        on_gpu = any(isinstance(value, GpuTensor) for value in values)
        where = self.current if on_gpu else self.host
        if on_gpu and name not in OF_TWO_DEVICES:
            self.mixed |= {name for value in arguments if _is_of_host(value)}
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **kwargs)
        if (name == "__get__" and not isinstance(result, Tensor)) or not values:
            return result
        target = args[0] if name in WRITES else None
        views = {address_of(made) for made in _flat([result]) if isinstance(made, Tensor)}
        for value in values:
            if value is target or name == "numpy" or address_of(value) not in views:
                self.use(address_of(value), where, name, writes=value is target)
        if name in WAITS and on_gpu:
            self.let_host_wait(name)
        kind = GpuTensor if on_gpu else PinnedTensor
        return result if name in HOST_RESULTS else self._wrapped(result, kind, name, where)

    def let_host_wait(self, name: str) -> None:
        """Let the host wait for the current stream."""
        self.host.learn(self.current.snapshot())
        self.waits.append(name)

    def _wrapped(self, result: Any, kind: type[Modelled], name: str, where: Timeline) -> Any:
        if isinstance(result, (tuple, list)):
            return type(result)(self._wrapped(part, kind, name, where) for part in result)
        if not isinstance(result, Tensor) or isinstance(result, Modelled):
            return result
        is_new = address_of(result) not in self.memory
        tensor = self.new(result, kind)
        if is_new:
            self.use(address_of(tensor), where, name, writes=True)
        return tensor

    def from_host(self, tensor: Tensor) -> Tensor:
        """Copy to the device in the current stream."""
        if isinstance(tensor, PinnedTensor):
            self.use(address_of(tensor), self.current, "copy to the device", writes=False)
        else:
            self.let_host_wait("copy of pageable memory")
        with torch._C.DisableTorchFunctionSubclass():
            copied = self.new(tensor.as_subclass(Tensor).clone(), GpuTensor)
        self.use(address_of(copied), self.current, "copy to the device", writes=True)
        return copied

    def to_host(self, tensor: Tensor, *, waits: bool) -> Tensor:
        """Copy to the host; torch copies to page-locked memory where the host does not wait."""
        if waits:
            return tensor.cpu()
        self.use(address_of(tensor), self.current, "copy to the host", writes=False)
        with torch._C.DisableTorchFunctionSubclass():
            copied = self.new(tensor.as_subclass(Tensor).clone(), PinnedTensor)
        self.use(address_of(copied), self.current, "copy to the host", writes=True)
        return copied


class Event:
    """As of `torch.cuda`."""

    gpu: FakeGpu

    def __init__(self, enable_timing: bool = False, blocking: bool = False) -> None:
        self._snapshot: dict[Timeline, int] = {}

    def record(self) -> None:
        self.gpu.current.now += 1
        self._snapshot = self.gpu.current.snapshot()

    def synchronize(self) -> None:
        self.gpu.host.learn(self._snapshot)
        self.gpu.waits.append("an event")

    def elapsed_time(self, end: "Event") -> float:
        assert self._snapshot, "an event that was never recorded"
        assert end._snapshot, "an event that was never recorded"
        for point in (*self._snapshot.items(), *end._snapshot.items()):
            if not self.gpu.host.is_after(*point):
                self.gpu.faults.append("a time between events that may not have happened yet")
        return 1.0


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, (tuple, list)):
            yield from _flat(value)
        else:
            yield value


def _is_of_host(value: Any) -> bool:
    """Return whether an operand is no GPU's, nor a number, which may be of any device."""
    return isinstance(value, Tensor) and not isinstance(value, GpuTensor) and value.dim() > 0


def address_of(tensor: Tensor) -> int:
    with torch._C.DisableTorchFunctionSubclass():
        return tensor.untyped_storage().data_ptr()
