"""What AQR's weights are like in a step, apart for what samples had to do without.

B samples, Q queries.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from shared.config.classes import CAMERAS

SENSORS = ("lidar", "cameras")
ONE_CAMERA = "no single camera"
CONDITIONS = ("all", "no lidar", "no cameras", ONE_CAMERA)
COUNT = "count"


def weight_sums(weights: Tensor, conditions: Sequence[str]) -> dict[str, Tensor]:
    """Return the weights of LiDAR and cameras summed over queries, and how many queries that are.

    The names are always the same, so that parts of a batch can be added up.

    Args:
        weights: (B, Q, 2).
        conditions: of the B samples, see `shared.data.sensor_drop.condition`.
    """
    kinds = [ONE_CAMERA if one.removeprefix("no ") in CAMERAS else one for one in conditions]
    found: dict[str, Tensor] = {}
    for kind in CONDITIONS:
        chosen = torch.tensor([one == kind for one in kinds], device=weights.device)
        sums = weights.detach()[chosen].sum(dim=(0, 1))
        found |= {f"aqr/{kind}/{one}": sums[i] for i, one in enumerate(SENSORS)}
        found[f"aqr/{kind}/{COUNT}"] = chosen.sum() * weights.shape[1]
    return found


def mean_weights(sums: Mapping[str, float]) -> dict[str, float]:
    """Return the mean weight of each sensor, for conditions that occurred."""
    means: dict[str, float] = {}
    for kind in CONDITIONS:
        count = sums[f"aqr/{kind}/{COUNT}"]
        if count:
            means |= {f"aqr/{kind}/{one}": sums[f"aqr/{kind}/{one}"] / count for one in SENSORS}
    return means
