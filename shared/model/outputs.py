"""What the head predicts, under the official names of its branches.

L decoder layers, B samples, Q queries, K classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

# Upstream: the names lie about the content. The box code is the concatenation of the branches, and
# targets put log(length), log(width), centre z and log(height) into columns 2 to 5, so `height` is
# the log of the length, and `dim` is (log of the width, centre z, log of the height).
BOX_BRANCHES = {"center": 2, "height": 1, "dim": 3, "rot": 2, "vel": 2}


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadOutputs:
    """Predictions of every decoder layer.

    Args:
        center: (L, B, Q, 2) x and y of the centre, metres, LiDAR frame.
        height: (L, B, Q, 1) log of the length in metres.
        dim: (L, B, Q, 3) log of the width, z of the centre in metres, log of the height.
        rot: (L, B, Q, 2) sine and cosine of the yaw, not normalised.
        vel: (L, B, Q, 2) metres per second along x and y.
        cls_logits: (L, B, Q, K).
        denoising: the same for the denoising queries, or None where there were none.
        sensor_weights: (B, Q, 2) AQR's weights of LiDAR and cameras, -1 to 1; None without AQR.
    """

    center: Tensor
    height: Tensor
    dim: Tensor
    rot: Tensor
    vel: Tensor
    cls_logits: Tensor
    denoising: "HeadOutputs | None" = None
    sensor_weights: Tensor | None = None

    @property
    def codes(self) -> Tensor:
        """(L, B, Q, 10) box codes in the order of `shared.model.box_coder`."""
        return torch.cat([self.center, self.height, self.dim, self.rot, self.vel], dim=-1)


def split_denoising(
    predictions: dict[str, Tensor], sensor_weights: Tensor | None, padded: int
) -> HeadOutputs:
    """WorkerSlice the denoising queries, which come first, from the others.

    Args:
        predictions: (L, B, padded + Q, k) by branch.
        sensor_weights: (B, padded + Q, 2), or None without AQR.
        padded: number of denoising queries, 0 if there are none.
    """
    denoising = None
    if padded:
        first = None if sensor_weights is None else sensor_weights[:, :padded]
        denoising = _as_outputs(
            {name: one[:, :, :padded] for name, one in predictions.items()}, first
        )
    others = None if sensor_weights is None else sensor_weights[:, padded:]
    return _as_outputs(
        {name: one[:, :, padded:] for name, one in predictions.items()}, others, denoising
    )


def _as_outputs(
    branches: dict[str, Tensor],
    sensor_weights: Tensor | None,
    denoising: HeadOutputs | None = None,
) -> HeadOutputs:
    return HeadOutputs(
        center=branches["center"],
        height=branches["height"],
        dim=branches["dim"],
        rot=branches["rot"],
        vel=branches["vel"],
        cls_logits=branches["cls_logits"],
        denoising=denoising,
        sensor_weights=sensor_weights,
    )
