"""AQR's sensor weights over all queries of an evaluation, as two numbers.

B samples, Q queries.
"""

import torch
from torch import Tensor


class MeanSensorWeights:
    """Collects sensor weights batch by batch, without making a device wait."""

    def __init__(self) -> None:
        self._sums: list[Tensor] = []
        self._queries = 0

    def add(self, weights: Tensor | None) -> None:
        """Add a batch's (B, Q, 2) weights of LiDAR and cameras; None, without AQR, adds nothing."""
        if weights is not None:
            self._sums.append(weights.float().sum(dim=(0, 1)))
            self._queries += weights.shape[0] * weights.shape[1]

    def mean(self) -> tuple[float, float] | None:
        """Return the mean weights of LiDAR and cameras, None if there were none."""
        if not self._sums:
            return None
        summed = torch.stack(self._sums).cpu().double().sum(dim=0)
        lidar, cameras = (summed / self._queries).tolist()
        return lidar, cameras
