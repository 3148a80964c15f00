"""The processes of a run: how many, how they connect, and in which precision they compute.

They are started by this program (`--devices`), by torchrun, or by Slurm's srun.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import cache
from typing import Any, Literal, TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision, Precision
from torch import distributed, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from shared.errors import ConfigError, FrozenCmtError, TrainingError
from shared.process.autocast import allow_tf32
from shared.process.device import available_device
from stage2_train.recipes.recipe import Recipe
from stage2_train.run.run_folder import RunFolder

_Result = TypeVar("_Result")

ResolvedPrecision = Literal["32-true", "bf16-mixed", "16-mixed"]

# Of work that the others wait for. Judging takes minutes for each condition, where a collective
# call of NCCL gives up after 10.
PATIENCE = timedelta(days=1)


def launch_fabric(
    recipe: Recipe, *, devices: int = 1, nodes: int = 1
) -> tuple[Fabric, torch.amp.GradScaler | None]:
    """Start the processes; return Fabric in each, and the gradient scaler that float16 needs.

    Args:
        recipe: says the precision, see `resolved_precision`.
        devices: per node; torchrun's own numbers override both.
        nodes: of the run.

    Raises:
        ConfigError: if this machine has fewer GPUs than `devices`.
    """
    if distributed.is_torchelastic_launched():
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
        if devices > 1 and nodes == 1:
            _connect_again()
    if available_device().type == "cuda" and devices > torch.cuda.device_count():
        raise ConfigError(
            f"--devices {devices}: this machine shows {torch.cuda.device_count()} GPUs; start at "
            "most one process per GPU"
        )
    allow_tf32(recipe.tf32)
    precision, scaler = _precision_plugin(resolved_precision(recipe))
    fabric = Fabric(
        accelerator="auto",
        devices=devices,
        num_nodes=nodes,
        strategy="ddp" if devices * nodes > 1 else "auto",
        plugins=[precision],
    )
    fabric.launch()
    return fabric, scaler


@contextlib.contextmanager
def locked_for_all(folder: RunFolder, fabric: Fabric) -> Iterator[None]:
    """Keep other runs out of a folder while entered; the first process holds the lock.

    Raises:
        ConfigError: in every process, if another run has the folder.
        OSError: in every process, if the folder cannot be written to.
    """
    refusal: ConfigError | OSError | None = None
    with contextlib.ExitStack() as held:
        if fabric.global_rank == 0:
            try:
                held.enter_context(folder.locked())
            except (ConfigError, OSError) as error:
                refusal = error
        refusal = fabric.broadcast(refusal)
        if refusal is not None:
            raise refusal
        yield


def from_first_process(fabric: Fabric, work: Callable[[], _Result]) -> _Result:
    """Do something in the first process; return in every process what it returned there.

    It may take as long as `PATIENCE`.

    Raises:
        FrozenCmtError, OSError: in every process, if it was raised in the first.
        TrainingError: in the others, if the first raised anything else.
    """
    if fabric.world_size == 1:
        return work()
    patient = _patient_group()
    outcome: _Result | FrozenCmtError | OSError | None = None
    failure: Exception | None = None
    if fabric.global_rank == 0:
        try:
            outcome = work()
        except (FrozenCmtError, OSError) as error:
            outcome = error
        except Exception as error:
            failure, outcome = error, TrainingError(f"the first process failed: {error!r}")
    distributed.barrier(patient)
    outcome = fabric.broadcast(outcome)
    if failure is not None:
        raise failure
    if isinstance(outcome, FrozenCmtError | OSError):
        raise outcome
    return outcome


@cache
def _patient_group() -> Any:
    """Return all processes as a group on the host that has patience; all ask for it together."""
    return distributed.new_group(backend="gloo", timeout=PATIENCE)


def gathered_in_first(fabric: Fabric, own: Sequence[Any]) -> list[Any]:
    """Return the items of all processes in the first one, nothing in the others.

    They travel through the memory of the host, whatever the processes compute on.
    """
    if fabric.world_size == 1:
        return list(own)
    parts: list[Any] | None = [None] * fabric.world_size if fabric.global_rank == 0 else None
    distributed.gather_object(list(own), parts, group=_patient_group())
    return [item for part in parts or [] for item in part]


def most_of_all(fabric: Fabric, own: int) -> int:
    """Return the largest of the numbers that the processes have; all must ask."""
    if fabric.world_size == 1:
        return own
    numbers = torch.zeros(fabric.world_size, dtype=torch.int64, device=fabric.device)
    numbers[fabric.global_rank] = own
    return int(fabric.all_reduce(numbers, reduce_op="sum").max())


def copy_buffers_of_first(fabric: Fabric, module: nn.Module) -> None:
    """Give the buffers of every process the values of the first one's, which are what is saved.

    In training, BatchNorm's statistics differ until DDP copies them before the next step.
    """
    if fabric.world_size > 1:
        for buffer in module.buffers():
            distributed.broadcast(buffer, src=0)


def _connect_again() -> None:
    """Connect the processes of torchrun's latest restart, and only those.

    torchrun keeps the store in which they exchange addresses, so a process may read the address of
    a dead one. Several nodes may count restarts differently; there torch's own way is used.
    """
    store, rank, size = next(rendezvous("env://"))
    restart = os.environ["TORCHELASTIC_RESTART_COUNT"]
    distributed.init_process_group(
        "nccl" if available_device().type == "cuda" else "gloo",
        store=PrefixStore(f"restart_{restart}", store),
        rank=rank,
        world_size=size,
    )


def resolved_precision(recipe: Recipe) -> ResolvedPrecision:
    """Return the recipe's precision, with what "auto" is on this device."""
    if recipe.precision != "auto":
        return recipe.precision
    if available_device().type == "cpu":
        return "32-true"
    has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16-mixed" if has_bfloat16 else "16-mixed"


def _precision_plugin(
    precision: ResolvedPrecision,
) -> tuple[Precision, torch.amp.GradScaler | None]:
    """Return Fabric's plugin and its gradient scaler, whose state belongs in checkpoints."""
    if precision == "32-true":
        return Precision(), None
    device = available_device().type
    scaler = torch.amp.GradScaler(device) if precision == "16-mixed" else None
    return MixedPrecision(precision, device, scaler), scaler
