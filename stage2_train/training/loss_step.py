"""Detector and losses as one module, so that DDP, which wraps it, sees one forward per pass."""

from collections.abc import Sequence

from torch import Tensor, nn

from shared.data.batch import Batch
from shared.data.ground_truth import GroundTruth
from shared.model.denoising import DenoisingQueries
from shared.model.detector import CmtDetector
from shared.model.losses import BatchCounts, detection_losses
from stage2_train.run.sensor_weights_log import sensor_weight_sums


class LossInput:
    """The input of one pass.

    Not a dataclass on purpose: Fabric traverses those and would cast the float64 camera matrices.
    """

    def __init__(
        self, batch: Batch, queries: DenoisingQueries | None, counts: BatchCounts | None = None
    ) -> None:
        self.batch = batch
        self.queries = queries
        self.counts = counts


class LossStep(nn.Module):
    """Forward pass and losses.

    Args:
        detector: what is trained.
        skips_overflow: see `shared.model.losses.detection_losses`.
        conditions: names of those that samples may be under, see `sensor_weight_sums`.
    """

    def __init__(
        self,
        detector: CmtDetector,
        *,
        skips_overflow: bool = False,
        conditions: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.conditions = tuple(conditions)
        self.skips_overflow = skips_overflow
        self.detector = detector

    def forward(self, inputs: LossInput) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the loss terms of a batch under their official names, and sums to log.

        The sums are those of `sensor_weight_sums`, none without AQR.
        """
        batch = inputs.batch
        truth = GroundTruth.of(batch.boxes_lidar, batch.labels).to(self.detector.device)
        outputs = self.detector(batch, inputs.queries)
        terms = detection_losses(
            outputs,
            truth,
            self.detector.preset.head,
            denoising=inputs.queries,
            counts=inputs.counts,
            skips_overflow=self.skips_overflow,
        )
        weights = outputs.sensor_weights
        if weights is None:
            return terms, {}
        return terms, sensor_weight_sums(weights, batch.conditions, self.conditions)
