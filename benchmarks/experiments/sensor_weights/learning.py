"""AQR learns, on top of a frozen detector, where a sensor is blinded.

First the detector is trained on healthy scenes with equal trust in both sensors; then only AQR, on
scenes with a sensor blinded on one side, through the ordinary losses.

Q queries.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from benchmarks.experiments.sensor_weights.blinded_scenes import CUT, BlindedScenes, Sensor
from shared.config.aqr_config import AqrConfig
from shared.data.ground_truth import GroundTruth
from shared.model.aqr.weight_generator import UPSTREAM_BIAS
from shared.model.detector import CmtDetector, build_detector
from shared.model.geometry.positions import metres_to_fractions
from shared.model.losses import detection_losses, total_loss

AQR = ("aqr_weight_generator", "attention_bias_generator")
SCENES_A_STEP = 4
LEARNING_RATE = 1e-3
HEALTHY_STEPS, BLINDED_STEPS = 120, 80
JUDGED_SCENES = 16
EVERY = 10  # steps between two measurements of the weights
# Larger than the default: a query attends to little but its windows, so that glare elsewhere does
# not reach it. No sensor weight can suppress what a query attends to outside its windows.
SCALE, MAX_SCALE = 7.0, 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """The weights at one step.

    Args:
        step: of AQR's training.
        weights: (Q, 2) LiDAR and cameras, mean over fresh scenes.
    """

    step: int
    weights: Tensor

    @property
    def lead(self) -> Tensor:
        """(Q,): the LiDAR's weight minus the cameras'."""
        return self.weights[:, 0] - self.weights[:, 1]


def learn(seed: int, sensor: Sensor) -> list[Look]:
    """Train both; return the course of AQR's weights, from equal trust to the end.

    Args:
        seed: of the scenes and of the detector's start.
        sensor: the blinded one.
    """
    healthy, blinded = BlindedScenes(seed, blinded=None), BlindedScenes(seed, blinded=sensor)
    detector = evenly_trusting_detector(healthy, seed)
    named = list(detector.named_parameters())
    of_aqr = [values for name, values in named if any(part in name for part in AQR)]
    of_cmt = [values for name, values in named if not any(part in name for part in AQR)]
    train(detector, healthy, AdamW(of_cmt, LEARNING_RATE), HEALTHY_STEPS)
    looks = [look(detector, blinded, step=0)]
    optimizer = AdamW(of_aqr, LEARNING_RATE)
    for step in range(EVERY, BLINDED_STEPS + 1, EVERY):
        train(detector, blinded, optimizer, EVERY)
        looks.append(look(detector, blinded, step=step))
    return looks


def evenly_trusting_detector(scenes: BlindedScenes, seed: int) -> CmtDetector:
    """Build a detector whose queries stand on the grid, with weight 0.91 for both sensors."""
    config = AqrConfig(
        bev_window=3, camera_window=3, dropout=0.0, initial_scale=SCALE, max_scale=MAX_SCALE
    )
    torch.manual_seed(seed)
    detector = build_detector(scenes.preset, CUT, config)
    head = detector.pts_bbox_head
    assert head.aqr_weight_generator is not None
    # "upstream" starts there, too, but with some spread; here every change has been learnt.
    nn.init.constant_(head.aqr_weight_generator.weight_predictor.bias, UPSTREAM_BIAS)
    range_m = torch.tensor(scenes.preset.grid.point_range_m).view(2, 3)
    head.reference_points.weight.data.copy_(metres_to_fractions(scenes.places_m, range_m))
    return detector


def train(detector: CmtDetector, scenes: BlindedScenes, optimizer: AdamW, steps: int) -> None:
    """Take some steps on only the optimizer's parameters."""
    for _ in range(steps):
        batch = scenes.draw(SCENES_A_STEP)
        truth = GroundTruth.of(batch.boxes_lidar, batch.labels).to(detector.device)
        losses = detection_losses(detector(batch), truth, scenes.preset.head)
        detector.zero_grad()
        total_loss(losses).backward()
        optimizer.step()


@torch.no_grad()
def look(detector: CmtDetector, scenes: BlindedScenes, *, step: int) -> Look:
    """Return the weights on fresh scenes."""
    weights = detector(scenes.draw(JUDGED_SCENES)).sensor_weights
    assert weights is not None
    return Look(step=step, weights=weights.mean(dim=0))
