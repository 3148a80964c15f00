"""What the head predicts, by what it means rather than by the official names of the branches.

L decoder layers, B samples, Q queries, K classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

# From the official name of a branch, which its state-dict keys carry, to ours. Upstream: three of
# the names are misleading. The box code is the concatenation of the first five branches, and
# targets put log(length), log(width), centre z and log(height) into columns 2 to 5, so that
# `height` predicts a length, and `dim` two logarithms with a coordinate between them.
OUTPUT_OF_BRANCH = {
    "center": "center_xy_m",
    "height": "log_length",
    "dim": "log_width_z_log_height",
    "rot": "yaw_sin_cos",
    "vel": "velocity_mps",
    "cls_logits": "class_logits",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadOutputs:
    """Predictions of every decoder layer.

    Args:
        center_xy_m: (L, B, Q, 2) centre of the box, LiDAR frame.
        log_length: (L, B, Q, 1) log of the length in metres.
        log_width_z_log_height: (L, B, Q, 3) log of the width, z of the centre in metres, log of the
            height.
        yaw_sin_cos: (L, B, Q, 2) sine and cosine of the yaw, not normalised.
        velocity_mps: (L, B, Q, 2) along x and y.
        class_logits: (L, B, Q, K).
        denoising: the same for the denoising queries, or None if there were none.
        sensor_weights: (B, Q, 2) AQR's weights of LiDAR and cameras, -1 to 1; None without AQR.
    """

    center_xy_m: Tensor
    log_length: Tensor
    log_width_z_log_height: Tensor
    yaw_sin_cos: Tensor
    velocity_mps: Tensor
    class_logits: Tensor
    denoising: "HeadOutputs | None" = None
    sensor_weights: Tensor | None = None

    @property
    def codes(self) -> Tensor:
        """(L, B, Q, 10) box codes in the order of `shared.model.box_coder`."""
        return torch.cat(
            [
                self.center_xy_m,
                self.log_length,
                self.log_width_z_log_height,
                self.yaw_sin_cos,
                self.velocity_mps,
            ],
            dim=-1,
        )


def split_denoising(
    predictions: dict[str, Tensor], sensor_weights: Tensor | None, padded: int
) -> HeadOutputs:
    """Separate the denoising queries, which come first, from the ordinary ones.

    Args:
        predictions: (L, B, padded + Q, k) by our name of the branch.
        sensor_weights: (B, padded + Q, 2), or None without AQR.
        padded: number of denoising queries, 0 if there are none.
    """
    if not padded:
        return HeadOutputs(**predictions, sensor_weights=sensor_weights, denoising=None)
    # Split, not sliced: the gradients of two slices would each be padded, then added.
    pairs = {name: _split(values, padded, dim=2) for name, values in predictions.items()}
    weights: tuple[Tensor | None, Tensor | None] = (None, None)
    if sensor_weights is not None:
        weights = _split(sensor_weights, padded, dim=1)
    noised = HeadOutputs(
        **{name: first for name, (first, _) in pairs.items()},
        sensor_weights=weights[0],
        denoising=None,
    )
    return HeadOutputs(
        **{name: rest for name, (_, rest) in pairs.items()},
        sensor_weights=weights[1],
        denoising=noised,
    )


def _split(values: Tensor, padded: int, dim: int) -> tuple[Tensor, Tensor]:
    noised, ordinary = torch.split(values, [padded, values.shape[dim] - padded], dim=dim)
    return noised, ordinary
