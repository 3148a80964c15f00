"""What a profile says about kernels: their summed time, their number, and who waited for them."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from torch.autograd import DeviceType  # type: ignore[attr-defined]

from benchmarks.speed.gpu.cases import Row

COPIES = ("Memcpy", "Memset")
LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch")
WAITS = ("cudaStreamSynchronize", "cudaEventSynchronize", "cudaDeviceSynchronize")
# Spans on the device that only group kernels; older versions of torch do not mark all of them.
ANNOTATIONS = ("Optimizer.", "ProfilerStep", "Torch-Compiled Region", "## ")
TOP = 8


def kernel_times(profile: Any, steps: int) -> Row:
    """Summarise a finished `torch.profiler.profile` of some steps.

    Returns:
        Per step: `kernel_s` and `copy_s`, summed over streams; `busy_s`, when at least one of them
        ran; `kernels`, launched by kernel or by graph; `launches`, calls of the host;
        `synchronisations` by function, of which two of the device in all are the measurement's own;
        `top_kernels`, the longest by name.
    """
    on_device, waits, launches = [], Counter[str](), 0
    for event in profile.events():
        if event.device_type == DeviceType.CUDA:
            is_annotation = getattr(event, "is_user_annotation", False)
            if not is_annotation and not event.name.startswith(ANNOTATIONS):
                on_device.append(event)
        elif event.name.startswith(LAUNCHES):
            launches += 1
        elif event.name in WAITS:
            waits[event.name] += 1
    kernels = [event for event in on_device if not event.name.startswith(COPIES)]
    by_name: Counter[str] = Counter()
    for event in kernels:
        by_name[event.name[:100]] += event.time_range.elapsed_us()
    kernel_us = sum(by_name.values())
    copies = (event for event in on_device if event.name.startswith(COPIES))
    copy_us = sum(event.time_range.elapsed_us() for event in copies)
    device_us = busy_us([(e.time_range.start, e.time_range.end) for e in on_device])
    return {
        "kernel_s": kernel_us / 1e6 / steps,
        "copy_s": copy_us / 1e6 / steps,
        "busy_s": device_us / 1e6 / steps,
        "kernels": len(kernels) / steps,
        "launches": launches / steps,
        "synchronisations": {name: count / steps for name, count in waits.items()},
        "top_kernels": [
            {"name": name, "s": us / 1e6 / steps} for name, us in by_name.most_common(TOP)
        ],
    }


def busy_us(spans: Sequence[tuple[float, float]]) -> float:
    """Return the length of the union of spans."""
    busy, until = 0.0, float("-inf")
    for start, end in sorted(spans):
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    return busy
