"""Where to compute, and how numbers travel there and back without the host waiting for a GPU.

A copy between pageable memory and a GPU makes the host wait until everything queued so far is
done. Copies here go through pinned memory, and the host waits only in `HostCopy.wait`.
"""

import contextlib
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

ALIGNMENT = 16  # bytes; more than any dtype needs


def available_device() -> torch.device:
    """Return CUDA where torch can use it, otherwise the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    """Return the model of a device, e.g. "NVIDIA H200", or a CPU's with instructions and threads.

    Two devices of one name run the same kernels of one torch version: on a CPU, sums are divided
    among torch's threads, so their last bits depend on how many there are.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    how = f"{torch.backends.cpu.get_cpu_capability()}, {threads} thread{'s' * (threads > 1)}"
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                return f"{model} ({how})"
    return f"{platform.machine()} ({how})"


def send(tensors: Sequence[Tensor], device: torch.device | str) -> list[Tensor]:
    """Copy tensors of the host to a device in a single transfer, without waiting for it.

    Args:
        tensors: of any shapes and dtypes.
        device: to copy to; the CPU gets the tensors themselves.

    Returns:
        The tensors on the device, views of one buffer.
    """
    if torch.device(device).type == "cpu":
        return list(tensors)
    packed = pack(tensors, is_pinned=True)
    return unpack(packed.to(device, non_blocking=True), like=tensors)


def pack(tensors: Sequence[Tensor], *, is_pinned: bool = False) -> Tensor:
    """Return the bytes of all tensors, one after the other, as uint8."""
    packed = torch.empty(_starts(tensors)[-1], dtype=torch.uint8, pin_memory=is_pinned)
    for tensor, place in zip(tensors, unpack(packed, like=tensors), strict=True):
        place.copy_(tensor)
    return packed


def unpack(packed: Tensor, *, like: Sequence[Tensor]) -> list[Tensor]:
    """Return the tensors that `pack` made `packed` of, as views of it.

    Args:
        packed: uint8, on any device.
        like: tensors of the same shapes and dtypes.
    """
    starts = _starts(like)
    return [
        packed[start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
        for start, tensor in zip(starts, like, strict=False)
    ]


def _starts(tensors: Sequence[Tensor]) -> list[int]:
    """Return where each tensor starts, aligned, and the end of the last."""
    starts = [0]
    for tensor in tensors:
        starts.append(-(-(starts[-1] + tensor.nbytes) // ALIGNMENT) * ALIGNMENT)
    return starts


@cache
def device_constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Return float32 values on a device, copied there the first time they are asked for."""
    with torch.inference_mode(False):  # else autograd would refuse the tensor later on
        return torch.tensor(values, dtype=torch.float32, device=device)


class HostCopy:
    """A copy of a device's tensor that is on its way to the host.

    Args:
        values: on any device.
    """

    def __init__(self, values: Tensor) -> None:
        self._values = values.detach()
        self._arrival: torch.cuda.Event | None = None
        if values.is_cuda:
            pinned = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            self._values = pinned.copy_(values.detach(), non_blocking=True)
            # Blocking: threads that wait would otherwise spin, each on a core of its own.
            self._arrival = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            self._arrival.record()

    def wait(self) -> Tensor:
        """Return the values on the host, once they have arrived."""
        arrival = self._arrival
        if arrival is not None:
            with allow_sync():
                arrival.synchronize()
            self._arrival = None  # several threads ask for the rows of a batch
        return self._values


@contextmanager
def allow_sync() -> Iterator[None]:
    """Let the host wait for the GPU, also where `torch.cuda.set_sync_debug_mode` forbids it."""
    is_in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    mode = torch.cuda.get_sync_debug_mode() if is_in_use else 0
    if not mode:
        yield
        return
    torch.cuda.set_sync_debug_mode(0)
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(mode)
