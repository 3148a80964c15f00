"""One source's pass through the detector: a leg.

All legs share what is discrete, because a rounding error must not look like a different result:
the denoising noise; the assignment of boxes to queries; and the gradient of the losses at the
outputs, since that of an L1 loss is a sign, and with few boxes a single sign is several percent of
the whole gradient. The live leg decides all three. How often another leg would have decided
differently is measured by `leg_differences`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from shared.config.head_config import HeadConfig
from shared.data.batch import Batch
from shared.data.ground_truth import GroundTruth
from shared.model.box_coder import Detections, decode_boxes
from shared.model.denoising import make_denoising_queries
from shared.model.detector import CmtDetector
from shared.model.losses import detection_losses, total_loss
from shared.model.matcher import Matches, match, matching_cost
from shared.model.outputs import OUTPUT_OF_BRANCH, HeadOutputs

SEED = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Leg:
    """Everything that follows from one source.

    Args:
        outputs, losses: of a forward with denoising queries, detached.
        costs: (L, M, Q), of assigning each of the batch's boxes to each query of its sample.
        own_matches: the assignment that this leg would choose itself.
        own_slopes: this leg's own gradient of the total loss at every output.
        gradients: of the parameters, from the slopes that all legs share.
        detections: of a forward in evaluation mode.
    """

    outputs: dict[str, Tensor]
    losses: dict[str, Tensor]
    costs: Tensor
    own_matches: Matches
    own_slopes: list[Tensor]
    gradients: dict[str, Tensor]
    detections: list[Detections]


def run_leg(detector: CmtDetector, batch: Batch, live: Leg | None = None) -> Leg:
    """Run forward and backward as training does, without dropout and with frozen BatchNorm.

    Args:
        detector: the same for all legs.
        batch: of one source.
        live: the live leg, when running any other.
    """
    head = detector.preset.head
    detector.eval()
    with torch.no_grad():
        detections = decode_boxes(detector(batch), head)
    queries = make_denoising_queries(
        batch.boxes_lidar,
        batch.labels,
        head,
        detector.preset.grid.point_range_m,
        generator=torch.Generator().manual_seed(SEED),
        device=detector.device,
    )
    truth = GroundTruth.of(batch.boxes_lidar, batch.labels).to(detector.device)
    outputs: HeadOutputs = detector(batch, queries)
    own = match(outputs, truth, head, skips_overflow=True)  # what is not finite fails below
    losses = detection_losses(
        outputs,
        truth,
        head,
        denoising=queries,
        matches=own if live is None else live.own_matches,
    )
    predicted = [*_branches(outputs).values()]
    if outputs.denoising is not None:
        predicted += _branches(outputs.denoising).values()
    slopes = list(torch.autograd.grad(total_loss(losses), predicted, retain_graph=True))
    detector.zero_grad()
    torch.autograd.backward(predicted, slopes if live is None else live.own_slopes)
    return Leg(
        outputs={name: values.detach() for name, values in _branches(outputs).items()},
        losses={name: value.detach() for name, value in losses.items()},
        gradients={
            name: parameter.grad.clone()
            for name, parameter in detector.named_parameters()
            if parameter.grad is not None
        },
        costs=_costs(outputs, truth, head),
        own_matches=own,
        own_slopes=slopes,
        detections=detections,
    )


def _costs(outputs: HeadOutputs, truth: GroundTruth, config: HeadConfig) -> Tensor:
    """Return (L, M, Q) matching costs, the boxes in the order of the batch."""
    by_class = matching_cost(outputs.codes, outputs.class_logits, truth, config).detach()
    return by_class[:, truth.by_class.argsort()]


def _branches(outputs: HeadOutputs) -> dict[str, Tensor]:
    return {name: getattr(outputs, name) for name in OUTPUT_OF_BRANCH.values()}
