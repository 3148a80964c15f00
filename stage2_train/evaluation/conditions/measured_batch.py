"""What a detector makes of a batch of a validation store: its loss and its detections."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from shared.data.batch import Batch
from shared.data.feature_store import FeatureStore
from shared.data.ground_truth import GroundTruth
from shared.model.box_coder import decode_boxes
from shared.model.detector import CmtDetector
from shared.model.losses import detection_losses, total_loss
from stage2_train.evaluation.conditions.detected_boxes import DetectedBoxes
from stage2_train.evaluation.detections import are_boxes


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredBatch:
    """What a detector makes of one batch of the validation store.

    Args:
        index: of the batch.
        condition: name of the one that its samples are under.
        samples: how many it has.
        loss: its total loss, NaN where detections are no boxes, see `detections.are_boxes`.
        detections: by sample token; empty where nobody needs them, or the loss is NaN.
    """

    index: int
    condition: str
    samples: int
    loss: float
    detections: Mapping[str, DetectedBoxes]


@torch.no_grad()
def measure_batch(
    detector: CmtDetector, batch: Batch, index: int, condition: str, store: FeatureStore | None
) -> MeasuredBatch:
    """Return what a detector in eval mode makes of a batch.

    Args:
        detector: on the device of `batch`.
        batch: samples of `store`.
        index: of the batch.
        condition: name of the one that its samples are under.
        store: has the frames that detections are turned by; None where nobody needs any.
    """
    outputs, head = detector(batch), detector.preset.head
    truth = GroundTruth.of(batch.boxes_lidar, batch.labels).to(detector.device)
    # What is not finite gives a loss of NaN, which is never the best.
    loss = float(total_loss(detection_losses(outputs, truth, head, skips_overflow=True)))
    decoded = decode_boxes(outputs, head)
    if not are_boxes(outputs, decoded):
        loss = math.nan
    detections = {}
    if store is not None and math.isfinite(loss):
        boxes = zip(batch.tokens, decoded, strict=True)
        detections = {token: DetectedBoxes.of(own, store.frame(token)) for token, own in boxes}
    return MeasuredBatch(
        index=index,
        condition=condition,
        samples=len(batch.tokens),
        loss=loss,
        detections=detections,
    )
