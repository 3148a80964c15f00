"""Where rays meet boxes: the geometry behind both sensors."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.synthetic_nuscenes.world.solids import Solid

Float = NDArray[np.float32]


class Hits(NamedTuple):
    """Where rays enter a solid.

    Args:
        distance: (...) float32, in lengths of the direction vector; infinite for a miss.
        axis: (...) int8, which local axis the entered face is normal to; 0 for a miss.
    """

    distance: Float
    axis: NDArray[np.int8]


def rotate(rotation: NDArray[np.float64], vectors: Float) -> Float:
    """Rotate (3, ...) float32 vectors; with einsum, as BLAS may round differently per thread."""
    turned: Float = np.einsum("ij,j...->i...", rotation.astype(np.float32), vectors)
    return turned


def cast_at_solid(solid: Solid, origin_m: NDArray[np.float64], directions: Float) -> Hits:
    """Intersect rays from a point with a solid (slab method).

    Args:
        solid: target.
        origin_m: (3,) global; if inside the solid, nothing is hit.
        directions: (3, ...) float32, global axes, any length.
    """
    local_from_global = solid.local_from_global
    local = rotate(local_from_global, directions)
    start = local_from_global @ (origin_m - solid.center_m)
    enter = np.full(directions.shape[1:], -np.inf, dtype=np.float32)
    leave = np.full(directions.shape[1:], np.inf, dtype=np.float32)
    axis = np.zeros(directions.shape[1:], dtype=np.int8)
    with np.errstate(divide="ignore", invalid="ignore"):  # a ray along a face: inf or NaN, a miss
        for index in range(3):
            inverse = np.float32(1.0) / local[index]
            low = np.float32(-solid.half_m[index] - start[index]) * inverse
            high = np.float32(solid.half_m[index] - start[index]) * inverse
            near = np.minimum(low, high)
            later = near > enter
            enter = np.where(later, near, enter)
            axis[later] = index
            leave = np.minimum(leave, np.maximum(low, high))
    hit = (enter <= leave) & (enter > 0)
    return Hits(np.where(hit, enter, np.float32(np.inf)), np.where(hit, axis, 0).astype(np.int8))
