"""The slice of a store that this worker begins with: from `--slice`, torchrun or Slurm.

A slice only says with which shards a worker begins. Once they are done it helps with the rest, so a
slice that is wrong, repeated or without a worker costs time and nothing else.
"""

import argparse
import logging
import os
from collections.abc import Mapping, Sequence

from cache.coordination.claims import WorkerSlice
from shared.errors import ConfigError
from shared.process.cores import local_processes

log = logging.getLogger(__name__)

OPTIONS = ("--slice", "--part")  # the second is the earlier name, for existing scripts


def parse_slice(text: str) -> WorkerSlice:
    """Read "2/8", the second of eight slices."""
    try:
        number, of = (int(digits) for digits in text.split("/"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form 2/8") from None
    if not 1 <= number <= of:
        raise argparse.ArgumentTypeError(f"slice {number} of {of} does not exist")
    return WorkerSlice(number=number, of=of)


def without_slice(command: Sequence[str]) -> list[str]:
    """Return a command line without its slice: the same for all workers of a store."""
    words, remaining = iter(command), []
    for word in words:
        if word in OPTIONS:
            next(words, None)
        elif word.partition("=")[0] not in OPTIONS:
            remaining.append(word)
    return remaining


def choose_slice(
    named: WorkerSlice | None, environment: Mapping[str, str] = os.environ
) -> WorkerSlice:
    """Return the slice of this worker, and log where it came from.

    Args:
        named: by `--slice`, which takes precedence.
        environment: of a process started by torchrun or Slurm: an array task is one worker, or as
            many workers as it has processes.

    Raises:
        ConfigError: if a variable is not a number.
    """
    if named is not None:
        log.info("slice %d/%d, from --slice", named.number, named.of)
        return named
    task, tasks, array = _array_task(environment)
    rank, ranks, launcher = _rank(environment)
    sources = [name for name in (array, launcher) if name]
    worker_slice = WorkerSlice(number=task * ranks + rank + 1, of=tasks * ranks)
    if sources:
        log.info(
            "slice %d/%d, from %s", worker_slice.number, worker_slice.of, " and ".join(sources)
        )
    return worker_slice


def choose_cuda_device(environment: Mapping[str, str] = os.environ) -> None:
    """Select the CUDA device of this process, as the launcher numbers it.

    Processes beyond the devices begin again with the first: Python's lock bounds what one process
    loads, queues and writes, so that several can share a device.

    Raises:
        ConfigError: if a variable is not a number.
    """
    import torch  # here, since every command line with a slice imports this module

    name = "LOCAL_RANK" if "LOCAL_RANK" in environment else "SLURM_LOCALID"
    devices = torch.cuda.device_count()
    if name not in environment or not devices:
        return
    local = _number(environment, name)
    if devices > 1:  # a launcher may show each process only its own
        torch.cuda.set_device(local % devices)
    sharing = processes_per_device(environment)
    if sharing > 1:
        log.info(
            "%d processes on this machine and %d CUDA device%s here: up to %d share a device, "
            "unless the launcher shows each process a different one",
            local_processes(environment=environment),
            devices,
            "s" * (devices > 1),
            sharing,
        )


def processes_per_device(environment: Mapping[str, str] = os.environ) -> int:
    """Return how many of torchrun's processes on this machine share a CUDA device, at most."""
    import torch

    return -(-local_processes(environment=environment) // max(1, torch.cuda.device_count()))


def _array_task(environment: Mapping[str, str]) -> tuple[int, int, str]:
    """Return index and count of the tasks of a Slurm array, and the variables that say so."""
    if not {"SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"} <= environment.keys():
        return 0, 1, ""
    task = _number(environment, "SLURM_ARRAY_TASK_ID")
    first = _number(environment, "SLURM_ARRAY_TASK_MIN", 0)
    step = _number(environment, "SLURM_ARRAY_TASK_STEP", 1)
    count = _number(environment, "SLURM_ARRAY_TASK_COUNT")
    # The remainder: an array like 1,5,6 has holes.
    return (task - first) // step % count, count, "SLURM_ARRAY_TASK_ID and _COUNT (Slurm array)"


def _rank(environment: Mapping[str, str]) -> tuple[int, int, str]:
    """Return rank and count of the processes started together, and the variables that say so."""
    for rank, ranks, launcher in (
        ("RANK", "WORLD_SIZE", "torchrun"),
        ("SLURM_PROCID", "SLURM_NTASKS", "srun"),
    ):
        if {rank, ranks} <= environment.keys():
            index, count = _number(environment, rank), _number(environment, ranks)
            return index % count, count, f"{rank} and {ranks} ({launcher})"
    return 0, 1, ""


def _number(environment: Mapping[str, str], name: str, otherwise: int | None = None) -> int:
    text = environment.get(name, "" if otherwise is None else str(otherwise))
    if not text.isdigit():
        raise ConfigError(
            f"{name} is {text!r}, which is not a number; give the slice with --slice 2/8"
        )
    return int(text)
