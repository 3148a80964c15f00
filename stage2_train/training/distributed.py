"""The processes of a run: how many, how they meet, and in which precision they compute.

They are started by this program (`--devices`), by torchrun, or by Slurm's srun.
"""

import os

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins import MixedPrecision, Precision
from torch import distributed
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from stage2_train.recipes.recipe import Recipe


def launch_fabric(
    recipe: Recipe, *, devices: int = 1, nodes: int = 1
) -> tuple[Fabric, torch.amp.GradScaler | None]:
    """Return Fabric in every process of the run, and the gradient scaler that float16 needs.

    Args:
        recipe: says the precision.
        devices: per node; under torchrun, what it says counts.
        nodes: of the run; the same.
    """
    if distributed.is_torchelastic_launched():
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
        if devices > 1 and nodes == 1:
            _meet_anew()
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


def _meet_anew() -> None:
    """Connect the processes that torchrun started, apart from those it started before a restart.

    torchrun keeps the store they meet in, so that a process may find the address of one that is
    dead. On several nodes the restarts are not counted alike; there torch's own way is used.
    """
    store, rank, size = next(rendezvous("env://"))
    restart = os.environ["TORCHELASTIC_RESTART_COUNT"]
    distributed.init_process_group(
        "nccl" if torch.cuda.is_available() else "gloo",
        store=PrefixStore(f"restart_{restart}", store),
        rank=rank,
        world_size=size,
    )


def _precision(recipe: Recipe) -> tuple[Precision, torch.amp.GradScaler | None]:
    """Return Fabric's plugin and the scaler in it, whose state belongs in checkpoints."""
    if recipe.precision == "32-true":
        return Precision(), None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    scaler = torch.amp.GradScaler(device) if recipe.precision == "16-mixed" else None
    return MixedPrecision(recipe.precision, device, scaler), scaler
