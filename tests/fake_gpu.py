"""A stand-in for CUDA on a CPU: every line of the path runs, and `stream_order` watches it.

Numbers are computed at once, on the CPU. A GPU's tensor is a subclass, which every operation on it
returns. Weights are ordinary tensors, which nothing writes to.
"""

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stage1_extract.backbones.frozen import FrozenBackbones
from stage1_extract.backbones.lidar_backbone import use_native_convolutions
from tests.stream_order import StreamOrder, Timeline

CUDA = torch.device("cuda", 0)
MEMORY_BYTES = 80 * 10**9
WAITS = {"nonzero", "item", "tolist", "cpu", "__bool__", "unique"}  # of the host for a GPU
WRITES = {"copy_", "__setitem__", "zero_", "fill_", "sub_", "add_", "mul_", "clamp_", "relu_"}
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
        self.gpu.memory[_address(self)].recorded.add(stream)


class PinnedTensor(Modelled):
    """Of page-locked memory."""


class FakeGpu(StreamOrder):
    """The device."""

    def __init__(self) -> None:
        super().__init__()
        Modelled.gpu = self

    def new(self, values: Tensor, kind: type[Modelled]) -> Modelled:
        """Return the values as a tensor of a kind."""
        tensor, address = values.as_subclass(kind), _address(values)
        self.hold(address, is_pinned=kind is PinnedTensor)
        weakref.finalize(tensor, self.release, address).atexit = False
        return tensor

    def run(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Run an operation where it would run."""
        name = getattr(func, "__name__", str(func))
        values = [
            value for value in _flat((*args, *kwargs.values())) if isinstance(value, Modelled)
        ]
        on_gpu = any(isinstance(value, GpuTensor) for value in values)
        where = self.current if on_gpu else self.host
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **kwargs)
        if name == "__get__" or not values:
            return result
        target = args[0] if name in WRITES else None
        views = {_address(made) for made in _flat([result]) if isinstance(made, Tensor)}
        for value in values:
            if value is target or name == "numpy" or _address(value) not in views:
                self.use(_address(value), where, name, writes=value is target)
        if name in WAITS and on_gpu:
            self.host.learn(self.current.snapshot())
        kind = GpuTensor if on_gpu else PinnedTensor
        return result if name in HOST_RESULTS else self._wrapped(result, kind, name, where)

    def _wrapped(self, result: Any, kind: type[Modelled], name: str, where: Timeline) -> Any:
        if isinstance(result, (tuple, list)):
            return type(result)(self._wrapped(part, kind, name, where) for part in result)
        if not isinstance(result, Tensor) or isinstance(result, Modelled):
            return result
        is_new = _address(result) not in self.memory
        tensor = self.new(result, kind)
        if is_new:
            self.use(_address(tensor), where, name, writes=True)
        return tensor

    def from_host(self, tensor: Tensor) -> Tensor:
        """Copy to the device in the current stream."""
        if isinstance(tensor, PinnedTensor):
            self.use(_address(tensor), self.current, "copy to the device", writes=False)
        with torch._C.DisableTorchFunctionSubclass():
            copied = self.new(tensor.as_subclass(Tensor).clone(), GpuTensor)
        self.use(_address(copied), self.current, "copy to the device", writes=True)
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

    def elapsed_time(self, end: "Event") -> float:
        assert self._snapshot, "an event that was never recorded"
        assert end._snapshot, "an event that was never recorded"
        for point in (*self._snapshot.items(), *end._snapshot.items()):
            if not self.gpu.host.is_after(*point):
                self.gpu.faults.append("a time between events that may not have happened yet")
        return 1.0


def install(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    """Let torch and the frozen backbones take the stand-in for a CUDA device."""
    gpu = FakeGpu()
    Event.gpu = gpu
    to, empty, tensor = torch.Tensor.to, torch.empty, torch.tensor

    def fake_to(values: Tensor, *args: Any, **options: Any) -> Tensor:
        devices = [torch.device(a) for a in (*args, *options.values()) if _is_device(a)]
        if not any(device.type == "cuda" for device in devices):
            return to(values, *args, **options)
        return values if isinstance(values, GpuTensor) else gpu.from_host(values)

    def fake_empty(*args: Any, pin_memory: bool = False, device: Any = None, **options: Any) -> Any:
        if device is not None and torch.device(device).type == "cuda":
            return gpu.new(empty(*args, **options), GpuTensor)
        made = empty(*args, device=device, **options)
        return gpu.new(made, PinnedTensor) if pin_memory else made

    def fake_tensor(data: Any, device: Any = None, **options: Any) -> Tensor:
        made = tensor(data, **options)
        if device is None or torch.device(device).type != "cuda":
            return made
        copied = gpu.from_host(made)
        gpu.host.learn(gpu.current.snapshot())  # a copy of pageable memory, which it waits for
        return copied

    @contextmanager
    def stream(chosen: Timeline | None) -> Iterator[None]:
        before, gpu.current = gpu.current, chosen or gpu.current
        try:
            yield
        finally:
            gpu.current = before

    monkeypatch.setattr(torch.Tensor, "to", fake_to)
    monkeypatch.setattr(torch, "empty", fake_empty)
    monkeypatch.setattr(torch, "tensor", fake_tensor)
    for name, value in {
        "Stream": lambda *_, **__: gpu.new_stream(),
        "Event": Event,
        "stream": stream,
        "current_stream": lambda _=None: gpu.current,
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "get_device_name": lambda _=None: "a stand-in",
        "mem_get_info": lambda _=None: (MEMORY_BYTES // 2, MEMORY_BYTES),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(FrozenBackbones, "device", CUDA)
    monkeypatch.setattr(FrozenBackbones, "to_device", _to_device)
    monkeypatch.setattr(FrozenBackbones, "_half", lambda _: nullcontext())
    return gpu


def _to_device(frozen: FrozenBackbones, _: torch.device) -> None:
    encoder = frozen.pts_middle_encoder
    if encoder is None:
        return
    use_native_convolutions(encoder)
    encoder.register_forward_pre_hook(_plain_arguments)  # spconv looks at where tensors are
    encoder.register_forward_hook(_gpu_result)


def _plain_arguments(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(
        value.as_subclass(Tensor) if isinstance(value, GpuTensor) else value for value in arguments
    )


def _gpu_result(_: nn.Module, __: Any, result: Tensor) -> Tensor:
    gpu = Modelled.gpu
    tensor = gpu.new(result, GpuTensor)
    gpu.use(_address(tensor), gpu.current, "sparse encoder", writes=True)
    gpu.host.learn(gpu.current.snapshot())  # spconv waits
    return tensor


def _is_device(value: Any) -> bool:
    return isinstance(value, (str, torch.device))


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, (tuple, list)):
            yield from _flat(value)
        else:
            yield value


def _address(tensor: Tensor) -> int:
    with torch._C.DisableTorchFunctionSubclass():
        return tensor.untyped_storage().data_ptr()
