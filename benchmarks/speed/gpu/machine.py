"""The machine a benchmark ran on."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from benchmarks.speed.gpu.kernel_limits import nvidia_smi
from shared.process.cores import available_cores
from shared.process.device import available_device
from stage2_train.data.loader import default_workers

LIBRARIES = (
    "torch",
    "triton",
    "lightning-fabric",
    "numpy",
    "zarr",
    "numcodecs",
    "spconv-cu118",
    "mmdet3d",
)


def machine() -> dict[str, Any]:
    """Return processor, device, driver and versions."""
    properties = torch.cuda.get_device_properties(0) if torch.cuda.is_available() else None
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": "none" if properties is None else properties.name,
        "device_memory_mb": None if properties is None else properties.total_memory / 1e6,
        "multiprocessors": None if properties is None else properties.multi_processor_count,
        "driver": nvidia_smi("driver_version"),
        "clock_mhz": nvidia_smi("clocks.max.sm"),
        "power_limit_w": nvidia_smi("power.limit"),
        "cuda": torch.version.cuda,
        "processor": _processor(),
        "cores": available_cores(),
        "loader_threads": default_workers(),
        "compute": available_device().type,
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": {name: version_of(name) for name in LIBRARIES},
    }


def version_of(name: str) -> str:
    """Return the version of a package, or that it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:  # noqa: PTH123
            names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        return platform.processor()
    return names[0] if names else platform.processor()
