"""The processes of a run: how many, and in which precision they compute.

Started by this program (`--devices`, on each node), by torchrun, or by Slurm's srun; under torchrun
the numbers are in its environment.
"""

import os

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins import MixedPrecision, Precision
from lightning.fabric.strategies import DDPStrategy

from stage2_train.recipes import Recipe


def make_fabric(
    recipe: Recipe, *, devices: int = 1, nodes: int = 1
) -> tuple[Fabric, torch.amp.GradScaler | None]:
    """Return Fabric, not launched yet, and the gradient scaler that float16 needs.

    Args:
        recipe: says the precision.
        devices: per node.
        nodes: of the run.
    """
    if torch.distributed.is_torchelastic_launched():
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    precision, scaler = _precision(recipe)
    # Upstream: each process has BatchNorm statistics of its own, those of the first are saved.
    several = DDPStrategy(broadcast_buffers=False)
    fabric = Fabric(
        accelerator="auto",
        devices=devices,
        num_nodes=nodes,
        strategy=several if devices * nodes > 1 else "auto",
        plugins=[precision],
    )
    return fabric, scaler


def _precision(recipe: Recipe) -> tuple[Precision, torch.amp.GradScaler | None]:
    """Return Fabric's plugin and the scaler in it, whose state belongs in checkpoints."""
    if recipe.precision == "32-true":
        return Precision(), None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    scaler = torch.amp.GradScaler(device) if recipe.precision == "16-mixed" else None
    return MixedPrecision(recipe.precision, device, scaler), scaler
