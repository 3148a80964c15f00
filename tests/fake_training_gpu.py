"""The stand-in of `tests.fake_gpu` for training: weights on the device, autocast, gradients.

Products are rounded as a CPU's autocast rounds them. Gradients are tensors of the device as soon as
Python sees them; the backward pass itself is not watched.
"""

from typing import Any

import pytest
import torch
from torch.utils import checkpoint

from tests import fake_gpu
from tests.fake_tensors import CUDA, FakeGpu, GpuTensor

FACTORIES = ("arange", "zeros", "ones", "full", "rand", "randn", "zeros_like", "ones_like")


def install(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    """Let torch, Fabric and all modules take the stand-in for a CUDA device."""
    gpu = fake_gpu.install(monkeypatch)
    for name in FACTORIES:
        monkeypatch.setattr(torch, name, _made_on_gpu(gpu, getattr(torch, name)))
    for name, value in {
        "set_device": lambda _: None,
        "current_device": lambda: 0,
        "get_device_capability": lambda _=None: (9, 0),
        "is_bf16_supported": lambda including_emulation=True: True,
        "max_memory_allocated": lambda _=None: 10**6,
        "empty_cache": lambda: None,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    # Weights become tensors of the device and remain the optimizer's.
    monkeypatch.setattr(torch.__future__, "_swap_module_params_on_conversion", True)
    # What is saved for the backward pass forgets which device it stands for.
    monkeypatch.setitem(
        checkpoint._allowed_determinism_checks_to_fns, "default", lambda tensor: tensor.shape
    )
    _let_autocast_be_of_the_cpu(monkeypatch)
    grouped = torch._C._group_tensors_by_device_and_dtype
    monkeypatch.setattr(
        torch._C,
        "_group_tensors_by_device_and_dtype",
        lambda *args: {(CUDA, kind): of for (_, kind), of in grouped(*args).items()},
    )
    return gpu


def _made_on_gpu(gpu: FakeGpu, factory: Any) -> Any:
    def fake(*args: Any, device: Any = None, **options: Any) -> Any:
        if device is None or torch.device(device).type != "cuda":
            return factory(*args, device=device, **options)
        made = factory(*args, **options)
        if isinstance(made, GpuTensor):
            return made
        with torch._C.DisableTorchFunctionSubclass():
            return gpu.new(made, GpuTensor)

    return fake


def _let_autocast_be_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    entered = torch.autocast.__init__
    is_enabled, dtype = torch.is_autocast_enabled, torch.get_autocast_dtype

    def fake_init(self: Any, device_type: str, *args: Any, **options: Any) -> None:
        entered(self, "cpu", *args, **options)

    monkeypatch.setattr(torch.autocast, "__init__", fake_init)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda _=None: is_enabled("cpu"))
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda _: dtype("cpu"))
