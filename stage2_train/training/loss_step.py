"""Detector and losses as one module, so that whatever wraps it sees one forward per pass."""

from torch import Tensor, nn

from shared.config.preset import Preset
from shared.data.batch import Batch
from shared.model.denoising import DenoisingQueries
from shared.model.detector import CmtDetector
from shared.model.losses import BatchCounts, detection_losses
from stage2_train.run.sensor_weights_log import weight_sums


class Work:
    """The input of one pass.

    Not a dataclass on purpose: Fabric looks into those and would cast the float64 camera matrices.
    """

    def __init__(
        self, batch: Batch, queries: DenoisingQueries | None, counts: BatchCounts | None = None
    ) -> None:
        self.batch = batch
        self.queries = queries
        self.counts = counts


class LossStep(nn.Module):
    """What a step runs.

    Args:
        detector: what is trained.
        preset: its configuration.
    """

    def __init__(self, detector: CmtDetector, preset: Preset) -> None:
        super().__init__()
        self.detector = detector
        self.preset = preset

    def forward(self, work: Work) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the loss terms of a batch under their official names, and sums to log.

        The sums are those of `routing_log.weight_sums`, none without AQR.
        """
        outputs = self.detector(work.batch, work.queries)
        terms = detection_losses(
            outputs,
            work.batch.boxes_lidar,
            work.batch.labels,
            self.preset.head,
            denoising=work.queries,
            counts=work.counts,
        )
        weights = outputs.sensor_weights
        return terms, {} if weights is None else weight_sums(weights, work.batch.conditions)
