"""The processes of a run: how many, how they connect, and in which precision they compute.

They are started by this program (`--devices`), by torchrun, or by Slurm's srun.
"""

import os

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins import MixedPrecision, Precision
from torch import distributed
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from shared.process.device import available_device
from stage2_train.recipes.recipe import Recipe


def launch_fabric(
    recipe: Recipe, *, devices: int = 1, nodes: int = 1
) -> tuple[Fabric, torch.amp.GradScaler | None]:
    """Start the processes; return Fabric in each, and the gradient scaler that float16 needs.

    Args:
        recipe: says the precision.
        devices: per node; torchrun's own numbers override both.
        nodes: of the run.
    """
    if distributed.is_torchelastic_launched():
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
        if devices > 1 and nodes == 1:
            _connect_again()
    precision, scaler = _precision(recipe)
    fabric = Fabric(
        accelerator="auto",
        devices=devices,
        num_nodes=nodes,
        strategy="ddp" if devices * nodes > 1 else "auto",
        plugins=[precision],
    )
    fabric.launch()
    return fabric, scaler


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


def _precision(recipe: Recipe) -> tuple[Precision, torch.amp.GradScaler | None]:
    """Return Fabric's plugin and its gradient scaler, whose state belongs in checkpoints."""
    if recipe.precision == "32-true":
        return Precision(), None
    device = available_device().type
    scaler = torch.amp.GradScaler(device) if recipe.precision == "16-mixed" else None
    return MixedPrecision(recipe.precision, device, scaler), scaler
