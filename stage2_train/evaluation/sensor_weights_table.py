"""AQR's sensor weights, query by query, with all sensors and without some.

S samples, V cameras, Q queries.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from shared.config.classes import CAMERAS, LIDAR
from shared.data.feature_store import FeatureStore
from shared.data.sensor_drop import NOTHING, Absent, condition
from shared.errors import ConfigError
from shared.model.detector import CmtDetector
from shared.process.device import available_device
from shared.process.whole_file import whole_file
from stage2_train.data.dataset import StoreDataset
from stage2_train.data.loader import EVALUATION_BATCH, evaluation_batches

SHOWN: tuple[Absent, ...] = (NOTHING, (LIDAR,), CAMERAS, CAMERAS[:1])

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleWeights:
    """Sensor weights and what the queries detect, under one condition.

    Args:
        condition: see `shared.data.sensor_drop.condition`.
        weights: (S, Q, 2) LiDAR and cameras, -1 to 1; 0 is neutral.
        scores: (S, Q) of the best class, 0 to 1.
        labels: (S, Q) int64, that class.
        distance_m: (S, Q) of the predicted centre from the LiDAR, in x and y.
    """

    condition: str
    weights: Floats
    scores: Floats
    labels: NDArray[np.int64]
    distance_m: Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class SensorWeightsTable:
    """The sensor weights of some samples.

    Args:
        tokens: S samples.
        references_m: (Q, 3) where the queries stand, metres, LiDAR frame.
        pixels: (S, V, Q, 2) the same in the network's input; NaN where a camera does not see it.
        conditions: the same samples under each condition.
    """

    tokens: tuple[str, ...]
    references_m: Floats
    pixels: Floats
    conditions: tuple[SampleWeights, ...]

    def save(self, path: Path) -> None:
        """Write tokens, `references_m`, and under each condition's name its weights, as .npz."""
        weights = {of_condition.condition: of_condition.weights for of_condition in self.conditions}
        with whole_file(path, "wb") as file:
            np.savez(file, tokens=self.tokens, references_m=self.references_m, **weights)


@torch.inference_mode()
def sensor_weights_table(
    detector: CmtDetector,
    store: FeatureStore,
    tokens: Sequence[str],
    *,
    shown: Sequence[Absent] = SHOWN,
    workers: int = 0,
) -> SensorWeightsTable:
    """Run the detector over samples, once for each set of absent sensors.

    Raises:
        ConfigError: if the detector has no AQR.
        CacheError: if the store has no null features.
    """
    if detector.aqr is None:
        raise ConfigError(
            "the run has no AQR, so there are no weights to plot; train with a recipe that has "
            "`aqr`, such as frozen_a"
        )
    detector.to(available_device()).eval()
    dataset = StoreDataset(store, tokens)
    cameras = np.stack([store.frame(token).img_from_lidar for token in tokens])  # (S, V, 4, 4)
    places = detector.query_places(torch.from_numpy(cameras).to(detector.device))
    return SensorWeightsTable(
        tokens=tuple(tokens),
        references_m=places.references_m.cpu().numpy(),
        pixels=places.pixels.cpu().numpy(),
        conditions=tuple(_weights_without(absent, detector, dataset, workers) for absent in shown),
    )


def _weights_without(
    absent: Absent, detector: CmtDetector, dataset: StoreDataset, workers: int
) -> SampleWeights:
    """Run the detector over the dataset without these sensors."""
    rows = []
    for batch in evaluation_batches(dataset, EVALUATION_BATCH, workers, absent):
        outputs = detector(batch.to(detector.device))
        scores, labels = outputs.class_logits[-1].float().sigmoid().max(dim=-1)  # (B, Q)
        distance_m = outputs.center_xy_m[-1].float().norm(dim=-1)  # (B, Q)
        assert outputs.sensor_weights is not None
        rows.append((outputs.sensor_weights, scores, labels, distance_m))
    weights, scores, labels, distance_m = (
        torch.cat(columns).cpu().numpy() for columns in zip(*rows, strict=True)
    )
    return SampleWeights(
        condition=condition(absent),
        weights=weights,
        scores=scores,
        labels=labels,
        distance_m=distance_m,
    )
