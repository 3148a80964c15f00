"""Sizes of the kernels' tiles for each generation of GPUs: a table, no tuning at start.

Tiles of tokens and queries must be powers of two from 16 on; queries divide `PADDING` of
tile_schedule.py. Shared memory is what limits Turing (64 KB per block) and consumer GPUs (99 KB);
every entry compiles for its generation without register spills, see docs/aqr.md.
"""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True, slots=True)
class Tile:
    """How one kernel cuts its work.

    Args:
        queries: in a block.
        tokens: in a block.
        warps: of 32 threads that share a block.
        stages: loads in flight, ahead of the arithmetic.
    """

    queries: int
    tokens: int
    warps: int
    stages: int


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


# Measured best on an H200 among four each, with a prototype of the kernels (bfloat16, heads of 32).
HOPPER = KernelSizes(
    forward=Tile(queries=64, tokens=128, warps=4, stages=2),
    of_query=Tile(queries=64, tokens=128, warps=4, stages=2),
    of_key=Tile(queries=128, tokens=64, warps=4, stages=2),
)
# Not measured: half the tile, because Ampere and Ada have slower asynchronous copies to hide and
# consumer cards have 99 KB of shared memory.
AMPERE = KernelSizes(
    forward=Tile(queries=64, tokens=64, warps=4, stages=3),
    of_query=Tile(queries=64, tokens=64, warps=4, stages=2),
    of_key=Tile(queries=64, tokens=64, warps=4, stages=2),
)
# Not measured: Turing has no asynchronous copies, so a second stage would only cost registers.
TURING = KernelSizes(
    forward=Tile(queries=64, tokens=64, warps=4, stages=1),
    of_query=Tile(queries=64, tokens=64, warps=4, stages=1),
    of_key=Tile(queries=64, tokens=64, warps=4, stages=1),
)
# Not measured: float32 without tensor cores keeps its operands in registers, and wide heads take
# several times the memory.
SMALL = KernelSizes(
    forward=Tile(queries=64, tokens=32, warps=4, stages=1),
    of_query=Tile(queries=64, tokens=32, warps=4, stages=1),
    of_key=Tile(queries=32, tokens=64, warps=4, stages=1),
)
# For shapes of a test in Triton's interpreter, where every tile costs Python time.
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
    if dtype == torch.float32 or width > 64:
        return SMALL
    if capability < (8, 0):
        return TURING
    if capability[0] in (9, 10):  # Hopper, and Blackwell of data centres, not measured
        return HOPPER
    return AMPERE  # A100, consumer Ampere, Ada and Blackwell


def float32_products() -> str:
    """Return how kernels multiply float32: exactly, or as TF32 where torch is allowed to."""
    return "tf32" if torch.backends.cuda.matmul.allow_tf32 else "ieee"
