"""Sizes of the kernels' tiles for each generation of GPUs: a table, no tuning at start.

Chosen by compiling for every generation and counting registers, spills and instructions (docs/
aqr.md); on an H200 none of 16 was faster by more than 2% (benchmarks/results/tile_sizes.json).
Tiles of tokens and queries are powers of two from 16 to `PADDING` of tile_schedule.py. No entry
needs more shared memory than Turing has, 64 KB a block.
"""

from dataclasses import dataclass

import torch

from shared.model.attention.windows.tile_schedule import Tile


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelSizes:
    """Tiles of the three kernels of biased attention.

    Args:
        forward: of the forward pass.
        of_query: of the gradient of queries and bias.
        of_key: of the gradient of keys and values.
    """

    forward: Tile
    of_query: Tile
    of_key: Tile


# 64 x 64 scores are what three to four blocks per multiprocessor can hold in registers without
# spilling, and the finest cut that keeps tensor cores busy: the smaller a tile, the fewer touch a
# window. Asynchronous copies run two tiles ahead.
HOPPER = KernelSizes(
    forward=Tile(queries=64, tokens=64, warps=4, stages=3),
    of_query=Tile(queries=64, tokens=64, warps=4, stages=3),
    of_key=Tile(queries=64, tokens=64, warps=4, stages=3),
)
# As above; gradients copy one tile ahead, because a third stage would take registers for addresses.
AMPERE = KernelSizes(
    forward=Tile(queries=64, tokens=64, warps=4, stages=3),
    of_query=Tile(queries=64, tokens=64, warps=4, stages=2),
    of_key=Tile(queries=64, tokens=64, warps=4, stages=2),
)
# Without tensor cores (float32, and Turing, for which Triton makes no use of them) the operands of
# a product are in registers, and so are the many columns of wide heads.
SMALL = KernelSizes(
    forward=Tile(queries=32, tokens=32, warps=4, stages=1),
    of_query=Tile(queries=32, tokens=32, warps=4, stages=1),
    of_key=Tile(queries=32, tokens=32, warps=4, stages=1),
)
# For small shapes in Triton's interpreter; three different cuts, so that tests see all of them.
INTERPRETED = KernelSizes(
    forward=Tile(queries=32, tokens=16, warps=4, stages=1),
    of_query=Tile(queries=16, tokens=32, warps=4, stages=1),
    of_key=Tile(queries=32, tokens=32, warps=4, stages=1),
)


def kernel_sizes(device: torch.device, dtype: torch.dtype, width: int) -> KernelSizes:
    """Return the sizes for heads of a width and dtype on a device."""
    if device.type != "cuda":
        return INTERPRETED
    return sizes_for(torch.cuda.get_device_capability(device), dtype, width)


def sizes_for(capability: tuple[int, int], dtype: torch.dtype, width: int) -> KernelSizes:
    """Return the sizes for a compute capability, e.g. (9, 0)."""
    if dtype == torch.float32 or width > 64 or capability < (8, 0):
        return SMALL
    if capability[0] in (9, 10):  # Hopper, and Blackwell of data centres
        return HOPPER
    return AMPERE  # A100, consumer Ampere, Ada and consumer Blackwell


def float32_products() -> str:
    """Return how kernels multiply float32: exactly, or as TF32 where torch is allowed to."""
    # Also what `allow_tf32` set; reading that is an error once `fp32_precision` was used.
    return "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "ieee"
