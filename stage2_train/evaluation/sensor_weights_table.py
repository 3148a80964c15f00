"""What AQR's weights are, query by query, with all sensors and without some.

S samples, V cameras, Q queries.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cache.reader import CachedFeatures
from shared.config.classes import CAMERAS, LIDAR
from shared.data.sensor_drop import NOTHING, Absent, condition
from shared.errors import ConfigError
from shared.model.detector import CmtDetector
from shared.model.geometry.positions import fractions_to_metres, project
from shared.process.whole_file import whole_file
from stage2_train.data.dataset import StoreDataset
from stage2_train.data.loader import evaluation_batches

SHOWN: tuple[Absent, ...] = (NOTHING, (LIDAR,), CAMERAS, CAMERAS[:1])
BATCH_SIZE = 4

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleWeights:
    """Weights and what the queries detect, under one condition.

    Args:
        condition: see `shared.data.sensor_drop.condition`.
        weights: (S, Q, 2) LiDAR, cameras, -1 to 1; 0 is neutral.
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
    """The weights of some samples.

    Args:
        tokens: S samples.
        references_m: (Q, 3) where the queries stand, metres, LiDAR frame.
        pixels: (S, V, Q, 2) where that is in the network's input; NaN where a camera does not see.
        conditions: the same samples under each.
    """

    tokens: tuple[str, ...]
    references_m: Floats
    pixels: Floats
    conditions: tuple[SampleWeights, ...]

    def save(self, path: Path) -> None:
        """Write tokens, `references_m`, and under each condition's name its weights, as .npz."""
        weights = {one.condition: one.weights for one in self.conditions}
        with whole_file(path, "wb") as file:
            np.savez(file, tokens=self.tokens, references_m=self.references_m, **weights)


@torch.inference_mode()
def sensor_weights_table(
    detector: CmtDetector,
    store: CachedFeatures,
    tokens: Sequence[str],
    *,
    shown: Sequence[Absent] = SHOWN,
    workers: int = 0,
) -> SensorWeightsTable:
    """Run the detector over samples, once for each set of absent sensors.

    Raises:
        ConfigError: if it has no AQR.
        CacheError: if the store has no null features.
    """
    head = detector.pts_bbox_head
    if head.aqr is None:
        raise ConfigError(
            "the run has no AQR, so there are no weights to draw; train with a recipe that has "
            "`aqr`, such as frozen_a"
        )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    detector.to(device).eval()
    dataset = StoreDataset(store, tokens)
    references_m = fractions_to_metres(head.reference_points.weight, head.point_range_m)
    frames = store.read_frames(tokens)
    matrices = torch.from_numpy(np.stack([one.img_from_lidar for one in frames])).to(device)
    cameras = head.geometry(matrices)
    assert cameras is not None
    pixels, seen = project(references_m.expand(len(frames), -1, -1), cameras)
    return SensorWeightsTable(
        tokens=tuple(tokens),
        references_m=references_m.cpu().numpy(),
        pixels=pixels[..., :2].masked_fill(~seen.unsqueeze(-1), torch.nan).cpu().numpy(),
        conditions=tuple(_routing(detector, dataset, one, workers) for one in shown),
    )


def _routing(
    detector: CmtDetector, dataset: StoreDataset, absent: Absent, workers: int
) -> SampleWeights:
    device = detector.pts_bbox_head.point_range_m.device
    found = []
    for batch in evaluation_batches(dataset, BATCH_SIZE, workers, absent):
        outputs = detector(batch.to(device))
        scores, labels = outputs.class_logits[-1].float().sigmoid().max(dim=-1)  # (B, Q)
        distance_m = outputs.center_xy_m[-1].float().norm(dim=-1)  # (B, Q)
        assert outputs.sensor_weights is not None
        found.append((outputs.sensor_weights, scores, labels, distance_m))
    weights, scores, labels, distance_m = (
        torch.cat(parts).cpu().numpy() for parts in zip(*found, strict=True)
    )
    return SampleWeights(
        condition=condition(absent),
        weights=weights,
        scores=scores,
        labels=labels,
        distance_m=distance_m,
    )
