"""The axis order of sparse convolution weights in a checkpoint: recognised, or refused.

spconv 1.x stored a weight as (z, y, x, in, out), spconv 2.x stores it as (out, z, y, x, in) and can
be told to store (z, y, x, out, in). Square layers fit in the wrong order too, so a layer that fits
in only one order decides for the whole file: the first, from five point features to more channels.
"""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from shared.checkpoint.checkpoint_table import part_of
from shared.errors import CheckpointError

ENCODER = "pts_middle_encoder"
FIRST_LAYER = f"{ENCODER}.conv_input.0.weight"
POINT_FEATURES = 5
KERNEL = (3, 3, 3)
SPARSE_DIMS = 5

# From the stored axes to (out, z, y, x, in), by spconv's name for the order.
TO_KRSC = {"KRSC": (0, 1, 2, 3, 4), "RSCK": (4, 0, 1, 2, 3), "RSKC": (3, 0, 1, 2, 4)}


def in_our_layout(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return the state with every sparse weight as (out, z, y, x, in), spconv 2's order.

    Args:
        state: of a checkpoint; returned unchanged if it has no sparse encoder.
        path: where it comes from, for the message.

    Raises:
        CheckpointError: if the weights are in no order that spconv has ever stored.
    """
    if FIRST_LAYER not in state:
        return dict(state)
    axes = TO_KRSC[_layout(tuple(state[FIRST_LAYER].shape), path)]
    return {
        key: tensor.permute(axes).contiguous()
        if part_of(key) == ENCODER and tensor.dim() == SPARSE_DIMS
        else tensor
        for key, tensor in state.items()
    }


def _layout(shape: tuple[int, ...], path: Path) -> str:
    """Return spconv's name for the order of the first layer's shape."""
    if len(shape) == SPARSE_DIMS and shape.count(POINT_FEATURES) == 1:
        for name, axes in TO_KRSC.items():
            _, *kernel, features = (shape[axis] for axis in axes)
            if tuple(kernel) == KERNEL and features == POINT_FEATURES:
                return name
    raise CheckpointError(
        f"checkpoint {path}: {FIRST_LAYER} has the shape {shape}; expected (out, 3, 3, 3, 5) as "
        "spconv 2 stores it, (3, 3, 3, 5, out) as spconv 1 does, or (3, 3, 3, out, 5). Weights in "
        "any other order would fit square layers and give wrong features, so nothing was loaded; "
        "save them again in one of these orders"
    )
