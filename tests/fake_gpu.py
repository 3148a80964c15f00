"""A stand-in for CUDA on a CPU: every line of the path runs, and `stream_order` watches it.

The frozen backbones' weights are ordinary tensors, which nothing writes to.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stage1_extract.backbones.frozen import FrozenBackbones
from stage1_extract.backbones.lidar_backbone import use_native_convolutions
from tests.fake_tensors import (
    CUDA,
    Event,
    FakeGpu,
    GpuTensor,
    Modelled,
    PinnedTensor,
    address_of,
)
from tests.stream_order import Timeline

MEMORY_BYTES = 80 * 10**9


def install(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    """Let torch and the frozen backbones take the stand-in for a CUDA device."""
    gpu = FakeGpu()
    Event.gpu = gpu
    to, empty, tensor = torch.Tensor.to, torch.empty, torch.tensor

    def fake_to(values: Tensor, *args: Any, **options: Any) -> Tensor:
        wanted = [*args, *options.values()]
        wanted = [part for a in wanted for part in ((a.device, a.dtype) if _is_like(a) else (a,))]
        devices = [torch.device(a) for a in wanted if _is_device(a)]
        dtypes = [a for a in wanted if isinstance(a, torch.dtype)]
        if not any(device.type == "cuda" for device in devices):
            if devices and isinstance(values, GpuTensor):
                values = gpu.to_host(values, waits=not options.get("non_blocking"))
            return to(values, *args, **options)
        moved = values if isinstance(values, GpuTensor) else gpu.from_host(values)
        return to(moved, *dtypes) if dtypes else moved

    def fake_empty(*args: Any, pin_memory: bool = False, device: Any = None, **options: Any) -> Any:
        if device is not None and torch.device(device).type == "cuda":
            return gpu.new(empty(*args, **options), GpuTensor)
        made = empty(*args, device=device, **options)
        return gpu.new(made, PinnedTensor) if pin_memory else made

    def fake_tensor(data: Any, device: Any = None, **options: Any) -> Tensor:
        made = tensor(data, **options)
        if device is None or torch.device(device).type != "cuda":
            return made
        return gpu.from_host(made)

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
    gpu.use(address_of(tensor), gpu.current, "sparse encoder", writes=True)
    gpu.let_host_wait("spconv")
    return tensor


def _is_device(value: Any) -> bool:
    return isinstance(value, (str, torch.device))


def _is_like(value: Any) -> bool:
    """Return whether a tensor says the device and dtype of another."""
    return isinstance(value, Tensor)
