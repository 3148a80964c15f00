"""AQR's sensor weights in the log of a step, by condition of the samples.

B samples, Q queries.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from shared.config.classes import CAMERAS

SENSORS = ("lidar", "cameras")
SINGLE_CAMERA = "no single camera"
CONDITIONS = ("all", "no lidar", "no cameras", SINGLE_CAMERA)
COUNT = "count"


def sensor_weight_sums(
    weights: Tensor, conditions: Sequence[str], names: Sequence[str] = ()
) -> dict[str, Tensor]:
    """Return the weights of LiDAR and cameras summed over queries, and the number of queries.

    The names are always the same, so that sums of micro-batches can be added up.

    Args:
        weights: (B, Q, 2), `HeadOutputs.sensor_weights`.
        conditions: of the B samples, see `stage2_train.data.sampler.Place.label`.
        names: of the conditions that samples of the run may be under, besides absent sensors.
    """
    kinds = [SINGLE_CAMERA if name.removeprefix("no ") in CAMERAS else name for name in conditions]
    sums: dict[str, Tensor] = {}
    for kind in (*CONDITIONS, *names):
        chosen = [weights[i : i + 1] for i, name in enumerate(kinds) if name == kind]
        # Slices rather than a mask: the host would wait to learn how many samples it selects.
        summed = torch.cat(chosen or [weights[:0]]).detach().sum(dim=(0, 1))
        sums |= {f"aqr/{kind}/{sensor}": summed[i] for i, sensor in enumerate(SENSORS)}
        queries = len(chosen) * weights.shape[1]
        sums[f"aqr/{kind}/{COUNT}"] = weights.new_full((), queries, dtype=torch.float32)
    return sums


def mean_sensor_weights(sums: Mapping[str, float]) -> dict[str, float]:
    """Return the mean weight of each sensor, for conditions that occurred."""
    means: dict[str, float] = {}
    for key, count in sums.items():
        kind, _, last = key.rpartition("/")
        if last == COUNT and count:
            means |= {f"{kind}/{sensor}": sums[f"{kind}/{sensor}"] / count for sensor in SENSORS}
    return means
